"""Whatever bytes a webhook has, parsing them gives an event, nothing, or `Unreadable`, and never anything else."""

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.github import events
from app.github.events import Event, Unreadable, parse
from tests.github_double import GitHubDouble
from tests.unit.test_github_events import ISSUE, Story, body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"action": "labeled", "issue": {"number": ' + b"9" * 5000 + b"}}",
        body(action="labeled", issue=ISSUE | {"number": 2**63}, label={"name": "x"}),
        body(action="labeled", issue=ISSUE | {"number": True}, label={"name": "x"}),
        body(action="labeled", issue=ISSUE | {"updated_at": "yesterday"}, label={"name": "x"}),
        body(action="labeled", issue=ISSUE | {"updated_at": "2026-11-20T12:00:00"}, label={"name": "x"}),
        body(action="labeled", issue=ISSUE | {"updated_at": "0001-01-01T00:00:00+23:59"}, label={"name": "x"}),
        body(action="labeled", issue=ISSUE, label="x"),
        body(action="labeled", issue=ISSUE, label={"name": "x"}, repository=None),
        body(action="labeled", label={"name": "x"}),
        body(action=1),
    ],
)
def test_a_body_that_is_not_as_documented_is_unreadable(raw: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        parse("issues", raw)

    assert caught.value.reason
    assert "yesterday" not in caught.value.reason


EVENTS = sorted(events._READERS)


@given(event=st.sampled_from(EVENTS) | st.text(), raw=st.binary())
def test_no_bytes_make_it_raise_anything_but_unreadable(event: str, raw: bytes) -> None:
    _parse(event, raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_no_change_of_a_real_body_makes_it_raise_anything_but_unreadable(
    recorded: list[tuple[str, Any]], data: st.DataObject
) -> None:
    event, payload = data.draw(st.sampled_from(recorded))
    changed = copy.deepcopy(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        _change_one(changed, data)

    _parse(event, json.dumps(changed).encode())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Any]]:
    """One real body of each event and action that is ours, cut to what a change could matter to."""
    with GitHubDouble(tmp_path_factory.mktemp("recorded")) as github:
        story = Story(github, github.repository("octo/bills"), github.person("ada"))
        issue = story.repository.open_issue(story.ada, "T")
        issue.label(story.ada, "devflow")
        issue.comment(story.ada, "/approve")
        pull = story.pull()
        pull.review(github.person("bob"), "approve")
        pull.close(story.ada)
        story.repository.delete_branch("topic", story.ada)
        story.repository.rename("octo/invoices")
        bodies = {(each.event, each.action): each.payload for each in github.deliveries if parse(each.event, each.body)}
    run = json.loads(body(action="rerequested", check_run={"head_sha": "a" * 40, "external_id": "x"}))
    return [*((event, payload) for (event, _), payload in sorted(bodies.items(), key=str)), ("check_run", run)]


def _change_one(payload: Any, data: st.DataObject) -> None:
    """Replace or drop one field, whose parents are likelier to be drawn than what lies deep."""
    while True:
        name = data.draw(st.sampled_from(sorted(payload)))
        inner = payload[name]
        if isinstance(inner, dict) and inner and data.draw(st.booleans()):
            payload = inner
            continue
        if data.draw(st.booleans()):
            payload[name] = data.draw(JSON)
        else:
            del payload[name]
            payload.setdefault("-", None)
        return


def _parse(event: str, raw: bytes) -> None:
    try:
        found = parse(event, raw)
    except Unreadable as error:
        assert str(error)
    else:
        assert found is None or isinstance(found, Event)
