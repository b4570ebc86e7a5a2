"""Only a body that was signed with one of our secrets is let in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.github.signature import sign, verify

BODY = b"Hello, World!"
# GitHub's own example, "Validating webhook deliveries"
EXAMPLE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
SECRET = "It's a Secret to Everybody"


def test_the_example_of_the_documentation_holds() -> None:
    assert verify([SECRET], BODY, EXAMPLE)
    assert sign(SECRET, BODY) == EXAMPLE


def test_while_secrets_change_each_of_them_holds() -> None:
    assert verify(["old", SECRET], BODY, EXAMPLE)
    assert verify([SECRET, "new"], BODY, EXAMPLE)
    assert not verify(["old", "new"], BODY, EXAMPLE)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        EXAMPLE.upper(),
        EXAMPLE.removeprefix("sha256="),
        EXAMPLE.replace("sha256", "sha1"),
        EXAMPLE[:-1],
        f"{EXAMPLE}0",
        f" {EXAMPLE}",
        "sha256=é\ud800",
    ],
)
def test_a_header_that_is_not_the_signature_is_refused(header: str | None) -> None:
    assert not verify([SECRET], BODY, header)


def test_without_a_secret_nothing_is_let_in() -> None:
    assert not verify([], BODY, EXAMPLE)
    assert not verify([""], BODY, sign("", BODY))


@given(secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), body=st.binary(), other=st.binary())
def test_a_signature_holds_for_its_own_body_alone(secret: str, body: bytes, other: bytes) -> None:
    assert verify([secret], body, sign(secret, body))
    assert verify([secret], other, sign(secret, body)) == (other == body)


@given(header=st.text(), body=st.binary())
def test_no_header_makes_it_raise(header: str, body: bytes) -> None:
    assert not verify([SECRET], body, header)
