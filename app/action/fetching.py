"""What a step will need of the repository, fetched while its database starts: the default branch, the issue's state.

Only a head start. Whatever goes wrong here happens again, and is told, where the thing is needed.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from app.action.opening import Given
from app.action.state import state_ref
from app.github.event_types import IssueEvent, RepositoryEvent
from app.github.remotes import git_environment
from engine.domain.errors import DevflowError
from engine.ports import Remote
from engine.workspace import state_ref as refs
from engine.workspace.mirror import Mirror
from engine.workspace.state_ref import StateMoved

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def fetching(given: Given, event: RepositoryEvent) -> AsyncIterator[None]:
    """Fetch beside what is done inside; at its end the fetching has ended, too."""
    task = asyncio.create_task(_fetch(given, event), name="fetching")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def remote_of(given: Given) -> Remote:
    """Return where git finds the step's repository, before there is a database that knows it."""
    environment = given.environment
    return Remote(
        f"{environment.server_url}/{environment.repository}.git",
        environment=git_environment(environment.server_url, environment.token),
    )


async def _fetch(given: Given, event: RepositoryEvent) -> None:
    try:
        mirror = await Mirror.open(given.settings.mirrors, given.environment.repository_id, remote_of(given))
        if isinstance(event, IssueEvent) and not (event.issue.is_pull or given.is_shared):
            await refs.read(mirror, state_ref(event.issue.number))
        await mirror.fetch(event.repository.default_branch)
    except (DevflowError, StateMoved) as error:
        _log.info("nothing was fetched beforehand: %s", error)
