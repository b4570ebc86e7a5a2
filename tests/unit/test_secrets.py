"""Credentials in what is published: found by line, never repeated. The samples are put together here on purpose."""

import json
from base64 import urlsafe_b64encode

import pytest

from engine.workspace.secrets import Secret, find_secrets, redact

FILL = "a1B2c3D4e5"
JWT = ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "x"}, {"a": 1}))

SAMPLES = [
    "github" + "_pat_" + FILL * 8,
    *(prefix + "_" + FILL * 4 for prefix in ("ghp", "gho", "ghu", "ghs", "ghr")),
    "sk" + "-proj-" + FILL * 5,
    "sk" + "-ant-api03-" + FILL * 5,
    "sk" + "-" + FILL * 4,
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "AIza" + FILL * 3 + "xxxxx",
    "xox" + "b-1234567890-abcdef",
    "glpat" + "-" + FILL * 2,
    "hf" + "_" + FILL * 4,
    "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----",
    "-----BEGIN " + "ENCRYPTED PRIVATE KEY-----",
    JWT + "." + FILL,
]


@pytest.mark.parametrize("secret", SAMPLES)
def test_a_credential_is_found_by_its_line_and_not_repeated(secret: str) -> None:
    (found,) = find_secrets(f"first\nx = '{secret}'\n".encode())
    assert found.line == 2
    assert secret not in found.kind


@pytest.mark.parametrize("secret", SAMPLES)
def test_redaction_takes_the_credential_out(secret: str) -> None:
    assert secret not in redact(f"before {secret} after")
    assert redact(f"before {secret} after").startswith("before [")


@pytest.mark.parametrize(
    "line",
    [
        "task-management-with-a-very-long-name-indeed-and-more",
        "sha256:" + "0123456789abcdef" * 4,
        "risk-abcdefghijklmnopqrstuvwxyzabcdefghijkl",
        "password = os.environ['PASSWORD']",
        "postgresql://user:pass@localhost/database",
        "the ghp_ prefix of tokens",
    ],
)
def test_ordinary_lines_are_left_alone(line: str) -> None:
    assert find_secrets(line.encode()) == []
    assert redact(line) == line


def test_only_lines_that_are_new_count() -> None:
    old = f"A\n{SAMPLES[0]}\n".encode()
    new = f"A\nB\n{SAMPLES[0]}\n{SAMPLES[1]}\n".encode()
    assert find_secrets(new, old) == [Secret(4, "GitHub token")]


def test_a_credential_is_found_in_long_lines_bytes_and_wide_text() -> None:
    token = SAMPLES[1]
    assert find_secrets(("x " * 40_000 + token + " y" * 40_000).encode())
    assert find_secrets(b"\x00\xff\xfe\x00" + token.encode() + b"\x00")
    assert find_secrets(token.encode("utf-16"))
    for start in range(14_000, 17_000, 100):
        assert find_secrets(("." * start + token + "." * 9_000).encode()), start
