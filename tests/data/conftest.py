"""What tests of reading videos count."""

from collections.abc import Iterator
from typing import Any

import pytest

from tadscale.data import decode


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times of the pictures that have been decoded, as often as they were."""
    times_s: list[float] = []
    pictures = decode._pictures

    def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
        for picture in pictures(*arguments, **options):
            times_s.append(picture.time_s)
            yield picture

    monkeypatch.setattr(decode, "_pictures", counted)
    return times_s
