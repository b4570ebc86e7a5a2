"""Steps before a state that somebody with the right to push has written, and what of conversations lies in a state."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from app.action.state import IssueState, read_state, state_ref
from engine.ports import Remote
from engine.store.deliveries import NewDelivery
from engine.store.snapshot_format import line_of
from engine.workspace import state_ref as refs
from engine.workspace.mirror import Mirror
from engine.workspace.state_ref import Stored
from tests.conformance import format as written
from tests.conformance import seen
from tests.conformance.backends.action import Action, action
from tests.conformance.backends.steps import Event


class Forger:
    """Somebody who reads and writes the state of the issue by git alone."""

    def __init__(self, on: Action, mirror: Mirror) -> None:
        self._id, self._issue = on.world.repository.id, on.world.the_issue.number
        self._mirror = mirror

    async def stored(self) -> Stored:
        """Return what is behind the ref now."""
        found = await refs.read(self._mirror, state_ref(self._issue))
        assert found is not None
        return found

    async def state(self) -> IssueState:
        """Return the state behind the ref."""
        return read_state((await self.stored()).files, self._id, self._issue)

    async def put(self, state: IssueState) -> Mapping[str, bytes]:
        """Write a state with all digests made right; returns its files."""
        expected = (await self.stored()).commit
        await refs.write(self._mirror, state_ref(self._issue), state.to_files(), expected=expected, message="Forged")
        return (await self.stored()).files


async def _forger(on: Action, folder: Path) -> Forger:
    remote = Remote(str(on.world.repository.git_dir))
    return Forger(on, await Mirror.open(folder / "forger", on.world.repository.id, remote))


def _comment(on: Action, text: str) -> Event:
    on.world.the_issue.comment(on.world.people["ada"], text)
    return on.told()


async def _begun(on: Action) -> None:
    on.world.the_issue.label(on.world.people["ada"], "devflow")
    assert (await on.run(on.told())).code == 0


def _unguarded(snapshot: bytes) -> bytes:
    """Return a run's snapshot in which its gates need nobody, whole by its own digest."""
    lines = [json.loads(line) for line in snapshot.splitlines()]
    for line in lines:
        if line.get("table") == "runs":
            line["row"]["options"]["required_approvals"] = 0
    body = b"".join(line_of(line) for line in lines[:-1])
    end = lines[-1]["end"] | {"digest": hashlib.sha256(body).hexdigest()}
    return body + line_of({"end": end})


async def test_a_step_does_nothing_with_a_state_that_was_forged(tmp_path: Path) -> None:
    async with action(written.read("main_road"), tmp_path, None) as on:
        await _begun(on)
        forger = await _forger(on, tmp_path)
        state = await forger.state()
        ((run_id, snapshot),) = state.runs.items()
        shown = [(one.id, one.body) for page in (on.world.the_issue, on.world.the_pull) for one in page.comments]
        for forged, code, why in (
            (replace(state, runs={run_id: _unguarded(snapshot)}), "state_untrusted", "its required_approvals is not"),
            (replace(state, runs={run_id: snapshot[:-30]}), "state_invalid", "the snapshot cannot be used"),
            (replace(state, repository_id=4711), "state_invalid", "repository 4711"),
        ):
            files = await forger.put(forged)
            event = _comment(on, "/approve")
            asked = on.world.the_issue.comments[-1]

            ended = await on.run(event)

            assert (ended.code, ended.outputs["error-code"], ended.outputs["run-id"]) == (1, code, "")
            (told,) = ended.annotations
            assert (told.title, why in told.message) == (f"Devflow: {code}", True), told
            assert f"git push origin :{state_ref(1)}" in told.message
            assert code in ended.summary
            assert (await forger.stored()).files == files
            assert asked.reactions == []
            asked.issue.delete_comment(on.world.people["ada"], asked)
            pages = (on.world.the_issue, on.world.the_pull)
            assert [(one.id, one.body) for page in pages for one in page.comments] == shown


async def test_an_event_that_only_the_state_tells_of_is_held_against_github(tmp_path: Path) -> None:
    async with action(written.read("main_road"), tmp_path, None) as on:
        on.world.repository.private = True
        await _begun(on)
        forger = await _forger(on, tmp_path)
        state = await forger.state()
        assert _says(state), "in a private repository, conversations are kept"

        on.world.repository.private = False
        event = _comment(on, "/status")
        told = copy.deepcopy(event.payload)
        told["comment"] |= {"id": told["comment"]["id"] + 1_000, "body": "/approve"}
        forged = NewDelivery(f"comment:{told['comment']['id']}", event.name, {}, json.dumps(told).encode())
        await forger.put(replace(state, handed=(forged,)))
        assert (await on.run(event)).code == 0

        (run,) = await on.runs()
        assert (run.state, seen.decisions([run])) == ("awaiting_approval", [])
        assert not _says(await forger.state()), "in a public one, they are not"

        on.world.repository.commit("main", {".github/devflow.yml": _PUBLISHING}, on.world.people["ada"])
        assert (await on.run(_comment(on, "/revise Say less."))).code == 0

        assert _says(await forger.state()), "unless the configuration wants them"


_PUBLISHING = "workflow: small\nchecks: {}\npublish_conversations: true\n"


def _says(state: IssueState) -> bool:
    """Tell whether anything that a model said lies in the state."""
    return b'"table":"session_messages"' in b"".join(state.runs.values())
