"""Settings of TV-L1 and their fingerprint."""

from tadscale.flow.tvl1.config import Tvl1Config
from tadscale.flow.tvl1.estimator import Tvl1

CHANGED = {"levels": 4, "warps": 2, "iterations": 7, "tau": 0.2, "data_weight": 0.2, "theta": 0.2}


def test_the_fingerprint_names_every_setting():
    assert CHANGED.keys() == Tvl1Config.model_fields.keys()
    changed = [Tvl1Config(**{name: value}) for name, value in CHANGED.items()]
    assert len({config.fingerprint() for config in [Tvl1Config(), *changed]}) == 1 + len(changed)


def test_the_estimator_says_the_same():
    config = Tvl1Config(**CHANGED)
    assert Tvl1(config).fingerprint() == config.fingerprint()
