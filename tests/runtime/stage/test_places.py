"""Which settings of a job name a place."""

from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.places import NETWORKS, PLACES, places, with_places

BARE = {"kind": "distill", "name": "x", "storage": "runs", "data": {"url": "shards"}}
NAMED = BARE | {
    "motion": {"name": "precomputed", "flow_url": "flow"},
    "teacher": {"url": "teacher", "cache": {"url": "said", "bytes": 1 << 20}},
    "student": {"appearance_teacher": {"url": "appearance"}},
    "model": {"backbone": {"name": "small3d", "weights": "start"}},
}


def test_places_are_known_by_their_settings():
    assert places(JobConfig.model_validate(BARE), PLACES) == {"storage": "runs", "data.url": "shards"}
    assert set(places(JobConfig.model_validate(NAMED), PLACES)) == set(PLACES)
    assert list(places(JobConfig.model_validate(NAMED), NETWORKS).values()) == ["teacher", "appearance", "start"]


def test_what_is_changed_is_what_is_named():
    job = JobConfig.model_validate(NAMED)
    moved = with_places(job, NETWORKS, lambda setting, place: f"{setting} at {place}")
    assert places(moved, PLACES) == places(job, PLACES) | {
        name: f"{name} at {url}" for name, url in places(job, NETWORKS).items()
    }
    bare = JobConfig.model_validate(BARE)
    assert with_places(bare, NETWORKS, lambda setting, place: "elsewhere") == bare
