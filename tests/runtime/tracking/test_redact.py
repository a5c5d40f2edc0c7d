import pytest

from tadscale.credentials import HIDDEN
from tadscale.runtime.tracking.redact import redact, redact_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:pa55@db:5432/mlflow", f"postgresql://{HIDDEN}@db:5432/mlflow"),
        ("https://only-a-token@host/x", f"https://{HIDDEN}@host/x"),
        ("see https://host/a@b and mail@host", "see https://host/a@b and mail@host"),
        ("https://b/k?X-Amz-Signature=abc&part=2", f"https://b/k?X-Amz-Signature={HIDDEN}&part=2"),
        ("https://b/k?part=2&token=abc", f"https://b/k?part=2&token={HIDDEN}"),
        ("AWS_SECRET_ACCESS_KEY=abc/def+x next", f"AWS_SECRET_ACCESS_KEY={HIDDEN} next"),
        ('{"db_password": "two words", "lr": 1}', '{"db_password": ' + HIDDEN + ', "lr": 1}'),
        ("Authorization: Bearer abc.def next", f"Authorization: {HIDDEN} next"),
        ("postgresql://me:p@ss@db/mlflow", f"postgresql://{HIDDEN}@db/mlflow"),
        ("postgresql://me:pa/ss@db/mlflow", f"postgresql://{HIDDEN}@db/mlflow"),
        ("http://server:5000/models/x@champion", "http://server:5000/models/x@champion"),
        ("password: abc\nlr: 0.1", f"password: {HIDDEN}\nlr: 0.1"),
        ("loss: 0.5, step: 3", "loss: 0.5, step: 3"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_trees() -> None:
    tree = {
        "storage": {"url": "s3://bucket", "secret_key": "abc", "apiKey": "abc"},
        "hosts": ["http://u:p@h", {"token": "abc"}],
        "credentials": {"user": "me", "keys": ["abc", "def"]},
        "db_password": 1234,
        "max_tokens": 5,
        "password": None,
        "use_credentials": True,
    }
    assert redact(tree) == {
        "storage": {"url": "s3://bucket", "secret_key": HIDDEN, "apiKey": HIDDEN},
        "hosts": [f"http://{HIDDEN}@h", {"token": HIDDEN}],
        "credentials": {"user": HIDDEN, "keys": [HIDDEN, HIDDEN]},
        "db_password": HIDDEN,
        "max_tokens": 5,
        "password": None,
        "use_credentials": True,
    }
    assert tree["storage"]["secret_key"] == "abc"  # a copy, not the tree itself
