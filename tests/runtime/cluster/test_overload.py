"""A machine with more to do than CPUs."""

import os

import pytest

from tadscale.runtime.cluster.overload import overload


@pytest.mark.parametrize(("jobs", "expected"), [(0.0, 1.0), (2.0, 1.0), (5.0, 2.5), (1000.0, 4.0)])
def test_it_is_the_load_of_a_cpu_within_bounds(jobs, expected, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (jobs, 0.0, 0.0))
    assert overload() == expected
