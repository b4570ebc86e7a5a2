"""A run made by the App on the double, whose rows are then changed as a forger would, and what the trust in it says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.action.trust import verify
from engine.domain.errors import DevflowError
from engine.domain.states import RunState
from tests.github_double import Comment, Issue, User
from tests.support.cassettes import cassette
from tests.support.engines import phase
from tests.support.stage import PHASES, TURNS, Stage, stage

CASSETTE = ("recorded.yaml", cassette(TURNS))
GATED = (PHASES[0], phase("change", gates=["change_approval"]))


async def trusted(play: Stage, issue: Issue, **more: Any) -> None:
    """Raise unless the state of the issue would be gone on with."""
    github = await play.host.app.repository(play.repository.id)
    await verify(play.host.engine, github, issue.number, **({"cassette": CASSETTE} | more))


async def refused(play: Stage, issue: Issue, match: str, **more: Any) -> DevflowError:
    """Return the refusal of the state, which has to say `match` and what to do."""
    with pytest.raises(DevflowError, match=match) as caught:
        await trusted(play, issue, **more)
    assert caught.value.code == "state_untrusted", str(caught.value)
    assert f"refs/devflow/state/{issue.number}" in caught.value.recovery_hint
    return caught.value


async def forge(play: Stage, *statements: Any) -> None:
    """Change rows as they could be changed in the state, with all hashes made right."""
    async with play.database.transaction() as tx:
        for statement in statements:
            assert (await tx.execute(statement)).rowcount


@asynccontextmanager
async def approved(tmp_path: Path, database_url: str, **more: Any) -> AsyncIterator[tuple[Stage, Issue, Comment]]:
    """A run whose specification ada has approved, and whose change waits at its gate."""
    async with stage(tmp_path, database_url, **({"phases": GATED} | more)) as play:
        bob = play.github.person("bob")
        play.repository.permit(bob, "write")
        issue, _ = await play.labelled()
        comment = (await play.pull(issue)).comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) is RunState.AWAITING_APPROVAL
        yield play, issue, comment


def bob(play: Stage) -> User:
    return play.github.person("bob")
