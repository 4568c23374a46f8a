"""What is written down of the environment, and what is not."""

import json

import pytest

from ablations.secrets import RECORDED_VARIABLES, has_credentials, recorded_variables, without_credentials


def test_only_listed_variables_are_recorded_and_no_long_values():
    environ = {"HF_TOKEN": "hf_x", "AWS_SECRET_ACCESS_KEY": "y", "HOME": "/root", "OMP_NUM_THREADS": "2" * 500}
    assert recorded_variables(environ) == {"OMP_NUM_THREADS": "2" * 100}
    assert not [name for name in RECORDED_VARIABLES if any(part in name for part in ("KEY", "TOKEN", "SECRET", "URL"))]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("https://user:s3cret@host/a.git", "https://host/a.git"),
        ("https://ghp_0123456789012345678901234567890123@github.com/a/b", "https://github.com/a/b"),
        ("index-url = https://__token__:pypi-s3cret@host/simple and more", "index-url = https://host/simple and more"),
        ('{"url": "http://:s3cret@host:8080/x?y=1"}', '{"url": "http://host:8080/x?y=1"}'),
    ],
)
def test_credentials_in_urls_are_taken_out_and_nothing_else(text, rest):
    assert has_credentials(text)
    assert without_credentials({"error": [text, {"deep": text}], "n": 1}) == {"error": [rest, {"deep": rest}], "n": 1}


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a@b",
        "ssh://git@host/x",
        "git@github.com:a/b",
        "a@b.example",
        "https://host/?mail=a:b@c",
        "lr@1e-3",
    ],
)
def test_what_is_no_credential_is_left_alone(text):
    assert not has_credentials(text)
    if not text.startswith("ssh"):
        assert without_credentials(json.dumps(text)) == json.dumps(text)
