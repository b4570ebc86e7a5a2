"""What a step asks before it opens anything: is the event any of ours, and is there anything to say about it?

Anybody may comment on an issue or review a pull request, and most of that is none of Devflow's business. So GitHub is
asked a few questions first, without a database, and without a mark in the repository.
"""

from dataclasses import dataclass

from app.action import screening
from app.action.fetching import remote_of
from app.action.opening import NO_INSTALLATION, Given
from app.action.state import state_ref
from app.clock import SystemClock
from app.github.by_token import looking_at
from app.github.event_types import IssueEvent, IssueLabeled, RepositoryEvent
from engine.workspace.mirror import Mirror


@dataclass(frozen=True)
class Glance:
    """The issue that an event is about; `keeps`: it has a state, or is to have one."""

    issue_number: int
    keeps: bool


async def glance(given: Given, event: RepositoryEvent) -> Glance | None:
    """Return what a step is to do about an event, None where that is nothing; raises a fault."""
    environment, config_path = given.environment, given.settings.config_path
    async with looking_at(
        environment.token,
        SystemClock(),
        api_url=environment.api_url,
        server_url=environment.server_url,
        repository=(
            environment.repository_id,
            NO_INSTALLATION,
            environment.repository,
            event.repository.default_branch,
        ),
    ) as github:
        number = await screening.issue_of(github, event)
        if number is None or not await screening.is_meant(github, event, config_path):
            return None
        if isinstance(event, IssueLabeled) or await _may_have_run(given, event, number):
            return Glance(number, keeps=True)
        if await screening.is_answered_anyway(github, event, config_path):
            return Glance(number, keeps=False)
        return None


async def _may_have_run(given: Given, event: RepositoryEvent, number: int) -> bool:
    if isinstance(event, IssueEvent) and event.issue.is_pull and event.issue.number == number:
        return False  # a pull request of people's own
    if given.is_shared:
        return True
    mirror = await Mirror.open(given.settings.mirrors, given.environment.repository_id, remote_of(given))
    return bool(await mirror.refs_of_remote(state_ref(number)))
