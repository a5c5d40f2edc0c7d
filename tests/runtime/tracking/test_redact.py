import pytest

from tadscale.runtime.tracking.redact import HIDDEN, redact, redact_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:pa55@db:5432/mlflow", f"postgresql://{HIDDEN}@db:5432/mlflow"),
        ("https://only-a-token@host/x", f"https://{HIDDEN}@host/x"),
        ("see https://host/a@b and mail@host", "see https://host/a@b and mail@host"),
        ("https://b/k?X-Amz-Signature=abc&part=2", f"https://b/k?X-Amz-Signature={HIDDEN}&part=2"),
        ("https://b/k?part=2&token=abc", f"https://b/k?part=2&token={HIDDEN}"),
        ("AWS_SECRET_ACCESS_KEY=abc/def+x next", f"AWS_SECRET_ACCESS_KEY={HIDDEN} next"),
        ('{"db_password": "abc", "lr": 1}', '{"db_password": ' + HIDDEN + '", "lr": 1}'),
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
        "max_tokens": 5,
        "password": None,
        "use_credentials": True,
    }
    assert redact(tree) == {
        "storage": {"url": "s3://bucket", "secret_key": HIDDEN, "apiKey": HIDDEN},
        "hosts": [f"http://{HIDDEN}@h", {"token": HIDDEN}],
        "max_tokens": 5,
        "password": None,
        "use_credentials": True,
    }
    assert tree["storage"]["secret_key"] == "abc"  # a copy, not the tree itself
