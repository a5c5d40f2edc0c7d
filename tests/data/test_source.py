"""Several sources of training data, and how they share the global batches."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tadscale.data.manifest import VideoRow, make_manifest, read_manifest, write_manifest
from tadscale.data.plan import EMPTY, Plan
from tadscale.data.source import Source, open_sources, tile_sources, training_windows
from tadscale.data.windows import WindowConfig
from tests.data.test_plan import rows_of

WINDOW = WindowConfig(frames=16, stride_frames=8)


def rows(prefix: str = "v", count: int = 9, labels: tuple[str, ...] = ("jump", "run", "walk")) -> Iterator[VideoRow]:
    for n in range(count):
        some = labels[: n % 4]
        yield VideoRow(
            url="u/s.tar", key=f"{prefix}{n}", subset=("train", "train", "test")[n % 3], video_offset=512, video_bytes=1,
            video_sha256=f"{n:064x}", duration_s=1.0 + 0.7 * n, fps=10.0, frames=10 + 7 * n, width=4, height=4,
            labels=some, start_s=(0.1,) * len(some), end_s=(0.9,) * len(some),
        )  # fmt: skip


def stored(folder: Path, *args: object, labelled: bool = True, **kwargs: object) -> str:
    made = (row._replace(labelled=labelled) for row in rows(*args, **kwargs))
    write_manifest(make_manifest(str(folder), made))
    return str(folder)


def plan_of(*sources: Source, global_batch: int = 4, epochs: int = 2, seed: int = 7) -> Plan:
    manifest = open_sources(sources)
    return Plan(
        windows=tile_sources(manifest, WINDOW),
        seed=seed,
        global_batch=global_batch,
        epochs=epochs,
        manifest_digest=manifest.digest,
        settings_digest=WINDOW.fingerprint(),
        shares=tuple(source.share for source in sources),
    )


def test_one_labelled_source_is_what_one_set_of_shards_has_always_been(tmp_path: Path) -> None:
    """Frozen values, from before there were sources: a run that goes on must meet the same windows."""
    plan = plan_of(Source(url=stored(tmp_path)))
    assert plan.manifest_digest == "0b1806b9c25108e90af4f7196e5c82cd39b441ad406b28b17d8a5d8ff769f964"
    assert plan.windows.digest == "f7f618d76a2f786068505d488aa792fe801ce7d28b11aff591dcc32656d4ee8e"
    assert plan.digest == "53cd25e62a3f6dd41ad955c56ce5ffba31ab0aa6720fe8078920a53a0757e404"
    assert [plan.batch(step).tolist() for step in range(plan.total_steps)] == [
        [15, 13, 8, 12], [4, 14, 3, 6], [2, 22, 1, 17], [0, 5, 11, 19], [18, 9, 10, 20], [16, 21, 7, -1],
        [12, 7, 14, 9], [13, 15, 10, 11], [6, 1, 19, 20], [4, 8, 3, 22], [21, 2, 18, 5], [0, 17, 16, -1],
    ]  # fmt: skip
    assert tuple(plan.row(5, 1, 21)) == (21, 5, 0, 21, 5, 40, 16, 6784340942103797413, True)


def test_rows_of_all_sources_in_order_with_the_classes_of_the_labelled(tmp_path: Path) -> None:
    first = Source(url=stored(tmp_path / "a"))
    more = Source(url=stored(tmp_path / "b", "w", labels=("run", "bow", "zip")), subset="test")
    other = Source(url=stored(tmp_path / "c", "x", labels=("secret", "run", "bow")), labelled=False)
    manifest = open_sources((first, other, more))
    assert manifest.classes == ("bow", "jump", "run", "walk", "zip")
    assert [row.key for row in manifest.rows] == ["v0", "v1", "v3", "v4", "v6", "v7", "x0", "x1", "x3", "x4", "x6", "x7",
                                                 "w2", "w5", "w8"]  # fmt: skip
    assert manifest.column("source").tolist() == [0] * 6 + [1] * 6 + [2] * 3
    assert manifest.column("labelled").tolist() == [True] * 6 + [False] * 6 + [True] * 3
    assert all(not row.labels and not len(row.segments_s) for row in manifest.rows if not row.labelled)
    last = next(row for row in manifest.rows if row.key == "w2")
    assert [manifest.classes[label] for label in last.label_ids] == ["run", "bow"]
    windows = tile_sources(manifest, WINDOW)
    assert windows.labelled.tolist() == manifest.column("labelled")[windows.video].tolist()


def test_windows_of_segments_are_the_same_from_whole_rows_and_from_an_index_and_tiles_where_nothing_is_known(
    tmp_path: Path,
) -> None:
    sources = Source(url=stored(tmp_path / "a")), Source(url=stored(tmp_path / "b", "w"), labelled=False)
    window = WINDOW.model_copy(update={"sampling": "segments"})
    table, again = (training_windows(open_sources(sources, verified=verified), window, 3) for verified in (True, False))
    assert table.digest == again.digest
    tiles = training_windows(open_sources(sources), WINDOW, 3)
    assert tiles.digest == tile_sources(open_sources(sources), WINDOW).digest
    unknown, of_tiles = ~table.labelled, ~tiles.labelled
    assert table.source.tolist() == (~table.labelled).astype(int).tolist()
    assert table.start_frames[unknown].tolist() == tiles.start_frames[of_tiles].tolist()
    assert table.labelled.sum() < tiles.labelled.sum()


def test_one_key_in_two_sources_is_an_error_that_names_both(tmp_path: Path) -> None:
    sources = Source(url=stored(tmp_path / "a")), Source(url=stored(tmp_path / "b"), labelled=False)
    with pytest.raises(ValueError, match=r"key 'v0' is in two sources, .*/a/s\.tar and .*/b/s\.tar"):
        open_sources(sources)
    with pytest.raises(ValueError, match="no source"):
        open_sources(())


def test_videos_without_annotations_are_never_taken_for_background(tmp_path: Path) -> None:
    url = stored(tmp_path, labels=(), labelled=False)
    assert not read_manifest(url).rows[0].labelled  # the file remembers
    with pytest.raises(ValueError, match="6 videos of subset 'train' were indexed without annotations"):
        open_sources((Source(url=url),))
    plan = plan_of(Source(url=url, labelled=False))
    assert not any(row.labelled for row in rows_of(plan) if row.window != EMPTY)


def test_that_labels_are_not_read_is_part_of_the_digests(tmp_path: Path) -> None:
    url = stored(tmp_path, labels=())
    plain, blind = plan_of(Source(url=url)), plan_of(Source(url=url, labelled=False))
    assert len({plain.manifest_digest, blind.manifest_digest}) == 2
    assert len({plain.windows.digest, blind.windows.digest}) == 2


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Source, Source, Source]:
    """23, 23 and some more windows; the second and third fill a quarter of every batch each."""
    return (
        Source(url=stored(tmp_path / "a")),
        Source(url=stored(tmp_path / "b", "w"), labelled=False, share=0.25),
        Source(url=stored(tmp_path / "c", "x", 3), labelled=False, share=0.25),
    )


def test_shares_are_kept_in_every_batch_and_the_others_come_once_an_epoch(mixed: tuple[Source, ...]) -> None:
    plan = plan_of(*mixed, global_batch=8, epochs=3)
    assert plan.steps_per_epoch == 6  # 23 windows, 4 a step
    source = plan.windows.source
    for epoch in range(3):
        batches = [plan.batch(epoch * 6 + nth) for nth in range(6)]
        for nth, batch in enumerate(batches):
            filled = batch[batch != EMPTY]
            assert Counter(source[filled].tolist()) == {0: 4 if nth < 5 else 3, 1: 2, 2: 2}
        once = np.concatenate(batches)
        once = once[(once != EMPTY) & (source[once] == 0)]
        np.testing.assert_array_equal(np.sort(once), np.flatnonzero(source == 0))


def test_the_share_of_slots_with_ground_truth_is_known(mixed: tuple[Source, ...]) -> None:
    assert plan_of(mixed[0]).labelled_share == 1.0  # to the bit: terms are divided by it
    assert plan_of(*mixed, global_batch=8).labelled_share == 0.5
    shuffled_in = mixed[1].model_copy(update={"share": None})
    plan = plan_of(mixed[0], shuffled_in, global_batch=8)
    assert plan.labelled_share == pytest.approx((plan.windows.source == 0).mean())


def test_a_source_with_a_share_is_gone_through_evenly_in_new_orders(mixed: tuple[Source, ...]) -> None:
    plan = plan_of(*mixed, global_batch=8, epochs=12)
    everything = np.concatenate([plan.batch(step) for step in range(plan.total_steps)])
    everything = everything[everything != EMPTY]
    for index in (1, 2):
        own = np.flatnonzero(plan.windows.source == index)
        turns = everything[np.isin(everything, own)]
        whole = turns[: len(turns) // len(own) * len(own)].reshape(-1, len(own))
        assert len(whole) > 5
        np.testing.assert_array_equal(np.sort(whole, axis=1), np.tile(own, (len(whole), 1)))
    orders = {tuple(order) for order in whole.tolist()}
    assert len(orders) > 1


def test_every_worker_gets_about_the_same_mixture(mixed: tuple[Source, ...]) -> None:
    plan = plan_of(*mixed, global_batch=8)
    for world in (2, 4):
        parts = [plan.windows.source[plan.slots(0, rank, world)] for rank in range(world)]
        assert {int((part == 0).sum()) for part in parts} == {4 // world}


def test_a_window_that_comes_again_within_an_epoch_is_augmented_anew(mixed: tuple[Source, ...]) -> None:
    plan = plan_of(*mixed, global_batch=8, epochs=1)
    draws: dict[int, list[int]] = {}
    for row in rows_of(plan):
        draws.setdefault(row.window, []).append(row.draw_seed)
    again = [seeds for window, seeds in draws.items() if window != EMPTY and len(seeds) > 1]
    assert again
    assert all(len(set(seeds)) == len(seeds) for seeds in again)


def test_shares_decide_the_digest(mixed: tuple[Source, ...]) -> None:
    unmixed = tuple(source.model_copy(update={"share": None}) for source in mixed)
    doubled = (*mixed[:2], mixed[2].model_copy(update={"share": 0.5}))
    assert len({plan_of(*some, global_batch=8).digest for some in (mixed, unmixed, doubled)}) == 3
    assert plan_of(*unmixed, global_batch=8).steps_per_epoch > plan_of(*mixed, global_batch=8).steps_per_epoch


def test_shares_that_do_not_fit_are_refused(mixed: tuple[Source, ...]) -> None:
    with pytest.raises(ValueError, match=r"shares \[0\.25, 0\.25\] of global_batch=1 are \[0, 0\] windows"):
        plan_of(*mixed, global_batch=1)
    with pytest.raises(ValueError, match="0 for the sources without a share"):
        plan_of(mixed[0], *(source.model_copy(update={"share": 0.5}) for source in mixed[1:]))
    with pytest.raises(ValueError, match="every source has a share"):
        plan_of(*mixed[1:])
    with pytest.raises(ValidationError, match="share"):
        Source(url="u", share=1.0)
