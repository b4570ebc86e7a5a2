"""The secrets of a GitHub App's webhook, as an operator gives them by the environment."""

import pytest

from app.github.signature import sign, verify
from app.settings import read_app_settings
from engine.domain.errors import DevflowError

BODY = b'{"action": "labeled"}'


@pytest.fixture(autouse=True)
def app(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else an App's settings need."""
    monkeypatch.setenv("GITHUB_APP_ID", "4711")
    monkeypatch.setenv("GITHUB_PRIVATE_KEY", "a key")
    for name in ("GITHUB_PRIVATE_KEY_PATH", "GITHUB_WEBHOOK_SECRET", "GITHUB_WEBHOOK_SECRETS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("single", "several", "read"),
    [
        ("one", None, ("one",)),
        (None, "one", ("one",)),
        (None, "old,new", ("old", "new")),
        (None, "old\nnew\n", ("old", "new")),
        (None, " old ,\r\n new ,, \n", ("old", "new")),
        (None, "old,new\nnewer", ("old", "new", "newer")),
        ("new", "old,new", ("new", "old")),
        ("in between", "old,new", ("in between", "old", "new")),
    ],
)
def test_secrets_are_split_by_commas_and_lines_and_each_counts_once(
    monkeypatch: pytest.MonkeyPatch, single: str | None, several: str | None, read: tuple[str, ...]
) -> None:
    for name, value in (("GITHUB_WEBHOOK_SECRET", single), ("GITHUB_WEBHOOK_SECRETS", several)):
        if value is not None:
            monkeypatch.setenv(name, value)

    assert read_app_settings(takes_webhooks=True).webhook_secrets == read


@pytest.mark.parametrize("several", ["", ",", " \n,\n "])
def test_secrets_of_nothing_but_separators_are_none(monkeypatch: pytest.MonkeyPatch, several: str) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRETS", several)

    with pytest.raises(DevflowError, match="GITHUB_WEBHOOK_SECRET"):
        read_app_settings(takes_webhooks=True)


def test_a_secret_is_changed_without_refusing_a_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [("old", "old"), ("old,new", "old"), ("old,new", "new"), ("new", "new")]
    for ours, github_signs_with in steps:
        monkeypatch.setenv("GITHUB_WEBHOOK_SECRETS", ours)
        secrets = read_app_settings(takes_webhooks=True).webhook_secrets

        assert verify(secrets, BODY, sign(github_signs_with, BODY))
    assert not verify(secrets, BODY, sign("old", BODY))


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRETS", "s3cret-one,s3cret-two")

    assert "s3cret" not in repr(read_app_settings(takes_webhooks=True))
