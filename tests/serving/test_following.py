"""A detector that follows a name, without a registry: what it does when versions change, fail and come back."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tadscale.serving.following import FollowingPredictor
from tadscale.serving.predictor import Prediction, Predictor
from tests.serving.tiny import SPEC, student_weights

QUICK_S = 0.02


class Folders:
    """A source whose versions are folders."""

    def __init__(self, folders: dict[str, Path], version: str) -> None:
        self.folders, self.version = folders, version
        self.fetched: list[str] = []
        self.fault: Exception | None = None

    def current(self) -> str:
        if self.fault:
            raise self.fault
        return self.version

    @contextmanager
    def fetch(self, version: str) -> Iterator[Path]:
        self.fetched.append(version)
        yield self.folders[version]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from tadscale.network import save_network

    root = tmp_path_factory.mktemp("versions")
    for version in ("1", "2"):
        save_network(str(root / version), SPEC, student_weights(seed=int(version)))
    return {version: root / version for version in ("1", "2", "none")}


@pytest.fixture(scope="module")
def expected(folders: dict[str, Path], video: bytes) -> dict[str, Prediction]:
    found = {version: Predictor.from_directory(folders[version], "cpu").predict([video]) for version in ("1", "2")}
    assert found["1"].detections != found["2"].detections
    return found


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_next_request_is_the_new_versions(
    folders: dict[str, Path], expected: dict[str, Prediction], video: bytes
) -> None:
    source = Folders(folders, "1")
    with FollowingPredictor(source, interval_s=QUICK_S, device="cpu") as detector:
        assert detector.predict([video]) == ("1", expected["1"])
        source.version = "2"
        until(lambda: detector.state.version == "2")
        assert detector.predict([video]) == ("2", expected["2"])
        assert source.fetched == ["1", "2"]
    assert detector.predict([video]).version == "2"  # closed: it follows no longer, and answers


def test_a_request_ends_with_the_version_that_it_began_with(
    folders: dict[str, Path], expected: dict[str, Prediction], video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, begun, go_on = Folders(folders, "1"), threading.Event(), threading.Event()
    plain = Predictor.detect_windows

    def slowly(self: Predictor, *arguments, **options):
        begun.set()
        assert go_on.wait(20)
        return plain(self, *arguments, **options)

    monkeypatch.setattr(Predictor, "detect_windows", slowly)
    with FollowingPredictor(source, interval_s=QUICK_S, device="cpu") as detector:
        answers: list = []
        request = threading.Thread(target=lambda: answers.append(detector.predict([video])))
        request.start()
        assert begun.wait(20)
        source.version = "2"
        until(lambda: detector.state.version == "2")
        go_on.set()
        request.join(20)
        assert answers == [("1", expected["1"])]


@pytest.mark.parametrize("fault", [OSError("away"), ValueError("no such alias"), RuntimeError("of some client")])
def test_the_old_version_answers_while_the_source_fails(
    fault: Exception, folders: dict[str, Path], expected: dict[str, Prediction], video: bytes
) -> None:
    source = Folders(folders, "1")
    with FollowingPredictor(source, interval_s=QUICK_S, device="cpu") as detector:
        source.fault = fault
        until(lambda: detector.state.failures >= 2)
        assert str(fault) in detector.state.error
        assert detector.predict([video]) == ("1", expected["1"])
        source.fault, source.version = None, "2"
        until(lambda: detector.state.version == "2")
        assert detector.state.failures == 0 and not detector.state.error


def test_a_version_that_cannot_be_used_is_never_the_one_that_answers(
    folders: dict[str, Path], expected: dict[str, Prediction], video: bytes
) -> None:
    source = Folders(folders, "1")
    with FollowingPredictor(source, interval_s=QUICK_S, device="cpu") as detector:
        source.version = "none"
        until(lambda: detector.state.failures >= 1)
        assert "no exported detector" in detector.state.error
        assert detector.predict([video]) == ("1", expected["1"])


def test_nothing_to_begin_with_is_an_error_at_once(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="no exported detector"):
        FollowingPredictor(Folders(folders, "none"))
