"""Published features become shards, and windows of them are cut where their annotations say."""

import json
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from tadscale.cli import main
from tadscale.data.augment import Augment
from tadscale.data.extractor_spec import read_extractor_weights
from tadscale.data.feature_pack import FeatureFiles, interpolated, pack_features
from tadscale.data.features import FeatureRows, parse_rows
from tadscale.data.flow_windows import blank_flow, check_flow, load_flow
from tadscale.data.lint import lint
from tadscale.data.manifest import make_manifest, read_manifest
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.quarantine import DataError, QuarantineBudget, QuarantineExceeded, QuarantineLedger
from tadscale.data.source import Source, open_sources
from tadscale.data.windows import WindowConfig, load_window, tile
from tadscale.flow.motion import MotionConfig
from tadscale.runtime.jobs.job_file import load_job
from tests.data.snippets import extractor_of

FILES = FeatureFiles(stride=4, offset=8, video_fps=30)
ROWS = FeatureRows(channels=6, stride=4, offset=8, video_fps=30)
WINDOW = WindowConfig(frames=64, stride_frames=32, fps=7.5, features=ROWS)
LENGTH_S = {"a": 20.0, "v_b": 30.0, "c.1": 10.0}  # b: the annotations leave ActivityNet's v_ out


def rows_of(length_s: float) -> int:
    return int((length_s * 30 - 16) // 4 + 1)


def write_features(folder: Path, channels: int, seed: int = 0, **shorter: int) -> Path:
    folder.mkdir()
    for name, length_s in LENGTH_S.items():
        rows = np.random.default_rng([seed, ord(name[0])]).normal(
            size=(rows_of(length_s) - shorter.get(name, 0), channels)
        )
        np.save(folder / f"{name}.npy", rows.astype(np.float32))
    return folder


@pytest.fixture
def annotations(tmp_path: Path) -> str:
    path = tmp_path / "annotations.json"
    subsets = {"a": "Validation", "b": "Test", "c.1": "Validation"}
    entries = {
        key: {
            "subset": subset,
            "duration": length_s,
            "annotations": [{"label": "jump", "segment": [2.0, 6.0]}, {"label": "run", "segment": [7.5, 9.0]}],
        }
        for (key, subset), length_s in zip(subsets.items(), LENGTH_S.values(), strict=True)
    }
    path.write_text(json.dumps({"database": entries}))
    return str(path)


@pytest.fixture
def shards(tmp_path: Path, annotations: str) -> str:
    rgb, flow = write_features(tmp_path / "rgb", 6), write_features(tmp_path / "flow", 4, seed=1, a=1)
    url = str(tmp_path / "shards")
    pack_features(str(rgb), annotations, url, FILES, flow_directory=str(flow))
    return url


def test_the_manifest_says_what_a_row_is(shards: str):
    manifest = read_manifest(shards)
    assert manifest.features == ROWS
    assert manifest.flow_channels == 4
    assert manifest.column("key").tolist() == ["a", "b", "c.1"]
    assert manifest.column("frames").tolist() == [
        rows_of(20) - 1,
        rows_of(30),
        rows_of(10),
    ]  # flow of a ends a row before
    assert manifest.duration_s.tolist() == [20.0, 30.0, 10.0]
    assert manifest.classes == ("jump", "run")
    assert {row.subset for row in manifest.rows} == {"validation", "test"}
    assert manifest.digest == read_manifest(shards).digest
    other = make_manifest(shards, manifest.rows, features=ROWS.model_copy(update={"offset": 4.0}), flow_channels=4)
    assert other.digest != manifest.digest


def test_what_made_them_goes_into_the_manifest_and_changes_no_digest(tmp_path: Path, annotations: str):
    rgb = write_features(tmp_path / "rgb", 6)
    bare = pack_features(str(rgb), annotations, str(tmp_path / "bare"), FILES).manifest
    assert bare.extractor is None and read_manifest(bare.url).extractor is None
    spec = extractor_of(ROWS, rgb)
    url = str(tmp_path / "shards")
    packed = pack_features(str(rgb), annotations, url, FILES).manifest
    read = read_manifest(url)
    assert read.extractor == packed.extractor == spec == read.subset("test").extractor
    assert read.digest == packed.digest == bare.digest == read_manifest(bare.url).digest
    assert read_extractor_weights(url, spec) == b"weights"
    joined = open_sources([Source(url=url, subset="validation"), Source(url=bare.url, subset="test")])
    assert joined.extractor is None  # of two sets nothing is said


def test_nothing_is_doubted_of_features_whose_make_is_known(
    tmp_path: Path, annotations: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tadscale.data.feature_pack.SIDE_BY_SIDE", 6)
    rgb = write_features(tmp_path / "rgb", 6)
    assert "taken as RGB alone" in pack_features(str(rgb), annotations, str(tmp_path / "bare"), FILES).warnings[-1]
    extractor_of(ROWS, rgb)
    assert not pack_features(str(rgb), annotations, str(tmp_path / "shards"), FILES).warnings


def test_features_that_are_packed_as_others_than_they_were_made_are_refused(tmp_path: Path, annotations: str):
    rgb, url = write_features(tmp_path / "rgb", 6), str(tmp_path / "shards")
    extractor_of(ROWS, rgb)
    for changes, says in (
        ({"offset": 6}, r"extractor\.json says that rows are .*offset=8.* packed as .*offset=6"),
        ({"stated_fps": "follow"}, r"--stated-fps follow would move their rows"),
        ({"rgb_channels": 4}, r"says that rows are channels=6 .* packed as channels=4"),
    ):
        with pytest.raises(ValueError, match=says):
            pack_features(str(rgb), annotations, url, FILES.model_copy(update=changes))
    (rgb / "extractor.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"extractor\.safetensors has digest"):
        pack_features(str(rgb), annotations, url, FILES)
    assert not Path(url).exists()


def test_the_command_asks_for_nothing_that_is_said_beside_the_files(
    tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str]
):
    rgb = write_features(tmp_path / "rgb", 6)
    command = ["data", "features", str(rgb), annotations, str(tmp_path / "shards")]
    assert main([*command, "--offset", "8"]) == 1
    assert "--stride, --video-fps: not given" in " ".join(capsys.readouterr().err.split())
    spec = extractor_of(ROWS, rgb)
    assert main(command) == 0
    manifest = read_manifest(str(tmp_path / "shards"))
    assert manifest.features == ROWS and manifest.extractor == spec
    assert main([*command, "--overwrite", "--stride", "5"]) == 1
    assert main([*command, "--overwrite", "--set", "seed=1"]) == 1
    assert "--set overrides a setting of a job" in " ".join(capsys.readouterr().err.split())


def test_the_shards_are_plain_webdataset(shards: str, tmp_path: Path):
    [tar] = Path(shards).glob("*.tar")
    samples = list(wds.WebDataset(str(tar), shardshuffle=False))
    assert [sorted(name for name in sample if not name.startswith("__")) for sample in samples] == [
        ["flow.npy", "json", "rgb.npy"]
    ] * 3
    assert np.array_equal(parse_rows(samples[1]["rgb.npy"]), np.load(tmp_path / "rgb" / "v_b.npy"))
    with tarfile.open(tar) as members:
        assert members.getnames()[-3:] == ["c%2E1.rgb.npy", "c%2E1.flow.npy", "c%2E1.json"]


def test_windows_hold_the_rows_and_their_segments(shards: str, tmp_path: Path):
    manifest = read_manifest(shards)
    table = tile(manifest, WINDOW)
    rgb, flow = np.load(tmp_path / "rgb" / "v_b.npy"), np.load(tmp_path / "flow" / "v_b.npy")
    [*_, last] = np.flatnonzero(table.video == 1)
    start, valid = int(table.start_frames[last]), int(table.valid_frames[last])
    assert start + valid == len(rgb)
    window = load_window(manifest.row(1), start, valid, WINDOW)
    assert window.frames.dtype == np.float32
    assert np.array_equal(window.frames, rgb[start:])
    assert np.array_equal(load_flow(shards, "b", start, valid, WINDOW), flow[start:])
    first = load_window(manifest.row(1), 0, 64, WINDOW)
    expected = [[(t * 30 - 8) / 4 for t in segment] for segment in ([2.0, 6.0], [7.5, 9.0])]
    expected[1][1] = 64.0  # clipped to the window
    assert np.allclose(first.segments_frames, expected)
    seconds = WINDOW.to_seconds(first.segments_frames.astype(np.float64))
    assert np.allclose(seconds[0], [2.0, 6.0], atol=1e-6)


def test_short_videos_are_padded_with_nothing(shards: str):
    manifest = read_manifest(shards)
    long = WINDOW.model_copy(update={"frames": 100, "stride_frames": 100})
    table = tile(manifest, long)
    [index] = np.flatnonzero(table.video == 2)
    valid = int(table.valid_frames[index])
    assert valid == rows_of(10) < 100
    window = load_window(manifest.row(2), 0, valid, long)
    flow = load_flow(shards, "c.1", 0, valid, long)
    assert window.mask.sum() == valid
    assert not window.frames[valid:].any()
    assert flow.shape == (100, 4) == blank_flow(shards, long, 100).shape
    assert not flow[valid:].any()


def test_windows_of_other_content_are_refused(shards: str):
    manifest = read_manifest(shards)
    with pytest.raises(
        ValueError, match=r"holds features, .* says nothing: set it to what the shards hold, data\.window\.fps to 7\.5"
    ):
        tile(manifest, WindowConfig())
    other = WINDOW.model_copy(update={"features": ROWS.model_copy(update={"offset": 0.0})})
    with pytest.raises(ValueError, match=r"offset=0\.0"):
        tile(manifest, other)
    videos = make_manifest("videos", [row._replace(flow_bytes=0) for row in manifest.rows])
    with pytest.raises(ValueError, match=r"holds videos, and data\.window\.features is set"):
        tile(videos, WINDOW)


@pytest.mark.parametrize(("changes", "says"), [
    ({"fps": 10.0}, r"30 / 4 = 7\.5 rows a second: set window\.fps"),
    ({"augment": Augment(flip_probability=0.5)}, "crops and flips pictures"),
])  # fmt: skip
def test_settings_that_do_not_fit_features_are_refused(changes: dict[str, object], says: str):
    with pytest.raises(ValueError, match=says):
        WindowConfig(**(WINDOW.model_dump() | changes))


def test_windows_of_pictures_keep_their_fingerprint():
    """Plans of earlier versions go on: the digest is of the settings that they knew."""
    assert WindowConfig().fingerprint() == "8438279560bac3454b04bf9803e8e3bcda4c13a4fdbe81bc472d3bc4df76640a"
    assert WINDOW.fingerprint() != WindowConfig(frames=64, stride_frames=32, fps=7.5).fingerprint()


def test_flow_features_are_checked_against_the_job(shards: str, tmp_path: Path, annotations: str):
    none = QuarantineBudget(max_fraction=0)
    manifest = read_manifest(shards)
    check_flow(shards, manifest, WINDOW, none, 4)
    with pytest.raises(ValueError, match=r"feature_channels is 1024, .* have 4 channels"):
        check_flow(shards, manifest, WINDOW, none, 1024)
    bare = str(tmp_path / "bare")
    pack_features(str(tmp_path / "rgb"), annotations, bare, FILES)
    with pytest.raises(ValueError, match=r"lacks the flow of 3 of the 3 videos .* \(there is none at all\)"):
        check_flow(bare, manifest, WINDOW, none, 4)


def test_flow_features_are_known_by_content(shards: str, tmp_path: Path, annotations: str):
    other = str(tmp_path / "other")
    flow = write_features(tmp_path / "flow2", 4, seed=2, a=1)
    pack_features(str(tmp_path / "rgb"), annotations, other, FILES, flow_directory=str(flow))
    of = {
        url: motion_fingerprint(MotionConfig(name="features", flow_url=url, feature_channels=4))
        for url in (shards, other)
    }
    assert of[shards].startswith("features(channels=4) of ")
    assert of[shards] != of[other]  # though the RGB features are the same


def test_sources_of_unlike_features_are_not_mixed(shards: str, tmp_path: Path, annotations: str):
    bare = str(tmp_path / "bare")
    pack_features(str(tmp_path / "rgb"), annotations, bare, FILES)
    both = [Source(url=shards, subset="validation"), Source(url=bare, subset="test")]
    with pytest.raises(ValueError, match="cannot be trained on together"):
        open_sources(both)
    alike = open_sources([both[0], Source(url=shards, subset="test")])
    assert (alike.features, alike.flow_channels) == (ROWS, 4)


def test_rgb_and_flow_side_by_side_in_one_file(tmp_path: Path, annotations: str):
    both = write_features(tmp_path / "both", 10)
    url = str(tmp_path / "shards")
    pack_features(str(both), annotations, url, FILES.model_copy(update={"rgb_channels": 6}))
    manifest = read_manifest(url)
    whole = np.load(both / "a.npy")
    assert (manifest.features, manifest.flow_channels) == (ROWS, 4)
    window = load_window(manifest.row(0), 3, 64, WINDOW)
    assert np.array_equal(window.frames, whole[3:67, :6])
    assert np.array_equal(load_flow(url, "a", 3, 64, WINDOW), whole[3:67, 6:])


def test_a_wrong_stride_is_noticed(tmp_path: Path, annotations: str):
    rgb = write_features(tmp_path / "rgb", 6)
    with pytest.raises(QuarantineExceeded, match="stride, offset or frame rate are others"):
        pack_features(str(rgb), annotations, str(tmp_path / "shards"), FILES.model_copy(update={"stride": 8}))


def test_a_video_of_another_frame_rate_is_left_out(tmp_path: Path, annotations: str):
    """Its rows would lie at other times than the data set's: a fifth off, at 25 for 30."""
    document = json.loads(Path(annotations).read_text())
    for key, fps in {"a": 29.97, "b": 30.001, "c.1": 30.0}.items():
        document["database"][key]["fps"] = fps
    Path(annotations).write_text(json.dumps(document))
    rgb, ledger = write_features(tmp_path / "rgb", 6), QuarantineLedger(QuarantineBudget(max_fraction=0.5))
    packed = pack_features(str(rgb), annotations, str(tmp_path / "shards"), FILES, ledger=ledger)
    assert packed.manifest.column("key").tolist() == ["b", "c.1"]
    [entry] = ledger
    assert entry.reason.startswith("a.npy: 29.97 frames a second, and the data set's features are of 30; computed at")
    heedless = FILES.model_copy(update={"stated_fps": "ignore"})
    assert len(pack_features(str(rgb), annotations, str(tmp_path / "all"), heedless).manifest) == 3


@pytest.mark.parametrize("fps", [25.0, 29.97, 50.0])
def test_rows_of_another_rate_come_to_lie_where_those_of_the_data_set_do(fps: float):
    """Features that say the time they are of, as ActionFormer's code has it: (row * stride + offset) / fps."""
    own, wanted = ROWS.model_copy(update={"video_fps": fps}), ROWS
    rows = np.float32((np.arange(200) * own.stride + own.offset) / fps)[:, None]
    found = interpolated(rows, own, wanted)
    times = (np.arange(len(found)) * wanted.stride + wanted.offset) / wanted.video_fps
    assert np.abs(found[:, 0] - times)[1:].max() < 1e-4  # the first lies before what there is at a lower rate
    assert 0 <= rows[-1, 0] - times[-1] < wanted.stride / wanted.video_fps
    assert np.array_equal(interpolated(rows, wanted, wanted), rows)


def test_features_at_each_videos_own_rate(tmp_path: Path, annotations: str):
    document = json.loads(Path(annotations).read_text())
    for key, fps in {"a": 29.97, "b": 30.0}.items():
        document["database"][key]["fps"] = fps
    Path(annotations).write_text(json.dumps(document))
    rgb, ledger = write_features(tmp_path / "rgb", 6), QuarantineLedger(QuarantineBudget(max_fraction=0.5))
    files = FILES.model_copy(update={"stated_fps": "follow"})
    packed = pack_features(str(rgb), annotations, str(tmp_path / "shards"), files, ledger=ledger)
    assert [entry.reason for entry in ledger] == [
        "c.1.npy: its annotation states no fps, and --stated-fps follow goes by it"
    ]
    rows, held = np.load(rgb / "a.npy"), load_window(packed.manifest.row(0), 0, 64, WINDOW).frames
    assert packed.manifest.features == ROWS
    expected = interpolated(rows, ROWS.model_copy(update={"video_fps": 29.97}), ROWS)[:64]
    assert not np.array_equal(held, rows[:64]) and np.array_equal(held, expected)


def test_bad_files_lose_only_themselves(tmp_path: Path, annotations: str):
    rgb = write_features(tmp_path / "rgb", 6)
    (rgb / "a.npy").write_bytes(b"no features")
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=0.5))
    packed = pack_features(str(rgb), annotations, str(tmp_path / "shards"), FILES, ledger=ledger)
    assert packed.manifest.column("key").tolist() == ["b", "c.1"]
    assert [(entry.key, entry.reason[:19]) for entry in packed.ledger] == [("a", "a.npy: no .npy file")]


def test_a_damaged_member_is_a_bad_video(shards: str):
    manifest = read_manifest(shards)
    with pytest.raises(DataError, match="digest"):
        load_window(manifest.row(0)._replace(video_sha256="0" * 64), 0, 64, WINDOW)


def test_the_command_packs_and_says_what_to_set(tmp_path: Path, annotations: str, capsys: pytest.CaptureFixture[str]):
    rgb, url = write_features(tmp_path / "rgb", 6), str(tmp_path / "out")
    flow = write_features(tmp_path / "flow", 4)
    given = [str(rgb), annotations, url, "--stride", "4", "--offset", "8", "--video-fps", "30", "--flow", str(flow)]
    assert main(["data", "features", *given]) == 0
    said = capsys.readouterr().out
    assert "data.window.features='{channels: 6, stride: 4, offset: 8.0, video_fps: 30.0}' data.window.fps=7.5" in said
    settings = [part for line in said.splitlines() if line.startswith("set ") for part in shlex.split(line)[1:]]
    job = load_job(Path(__file__).parents[2] / "jobs/thumos14/features.yaml", settings)
    assert (job.data.url, job.data.window.features, job.data.window.fps) == (url, ROWS, 7.5)
    assert job.motion == MotionConfig(name="features", flow_url=url, feature_channels=4)
    assert job.model.backbone.name == "features"
    assert read_manifest(url).features == ROWS
    assert main(["data", "features", *given]) == 1  # never replaced unasked
    with pytest.raises(ValueError, match="lint looks at videos"):
        lint(url)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_video_with_a_row_that_is_not_finite_is_left_out_and_says_which(
    tmp_path: Path, annotations: str, value: float
):
    folder = write_features(tmp_path / "rgb", 6)
    rows = np.load(folder / "a.npy").astype(np.float64)
    rows[3, 2] = value
    np.save(folder / "a.npy", rows)
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=0.5))
    packed = pack_features(str(folder), annotations, str(tmp_path / "shards"), FILES, ledger=ledger)
    assert packed.manifest.column("key").tolist() == ["b", "c.1"]
    [entry] = ledger
    assert f"1 of {len(rows)} rows hold what is no finite number, the first is row 3" in entry.reason


def test_flow_of_it_that_is_not_finite_is_told_apart(tmp_path: Path, annotations: str):
    rgb, flow = write_features(tmp_path / "rgb", 6), write_features(tmp_path / "flow", 4, seed=1)
    rows = np.load(flow / "a.npy")
    rows[-1] = np.nan
    np.save(flow / "a.npy", rows)
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=0.5))
    pack_features(str(rgb), annotations, str(tmp_path / "shards"), FILES, flow_directory=str(flow), ledger=ledger)
    assert "rows of flow hold" in next(iter(ledger)).reason


@pytest.mark.parametrize(("field", "value"), [("fps", "30/1"), ("fps", None), ("duration", "half a minute")])
def test_an_annotation_that_is_no_number_is_named_and_not_the_features(tmp_path: Path, annotations, field, value):
    document = json.loads(Path(annotations).read_text())
    document["database"]["a"][field] = value
    Path(annotations).write_text(json.dumps(document))
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=0.5))
    pack_features(str(write_features(tmp_path / "rgb", 6)), annotations, str(tmp_path / "shards"), FILES, ledger=ledger)
    assert f"its annotation says {field}: {value!r}, which is no number" in next(iter(ledger)).reason


def test_what_may_be_flow_beside_rgb_is_doubted(tmp_path: Path, annotations: str, monkeypatch):
    monkeypatch.setattr("tadscale.data.feature_pack.SIDE_BY_SIDE", 6)
    folder = str(write_features(tmp_path / "rgb", 6))
    alone = pack_features(folder, annotations, str(tmp_path / "alone"), FILES)
    assert [warning for warning in alone.warnings if "--rgb-channels 3" in warning]
    split = pack_features(folder, annotations, str(tmp_path / "split"), FILES.model_copy(update={"rgb_channels": 2}))
    assert not [warning for warning in split.warnings if "--rgb-channels" in warning]
    assert [warning for warning in split.warnings if "flow has 4 channels and RGB 2" in warning]


def test_lengths_that_nothing_checks_are_said_to_be_unchecked(tmp_path: Path, annotations: str):
    folder = str(write_features(tmp_path / "rgb", 6))
    checked = pack_features(folder, annotations, str(tmp_path / "checked"), FILES)
    document = json.loads(Path(annotations).read_text())
    for entry in document["database"].values():
        del entry["duration"]
    Path(annotations).write_text(json.dumps(document))
    unchecked = pack_features(folder, annotations, str(tmp_path / "unchecked"), FILES)
    assert "was not checked" in unchecked.warnings[-1] and checked.warnings == unchecked.warnings[:-1]
