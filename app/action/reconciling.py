"""A step without an event of an issue, on a schedule or by hand: it looks at every issue that has something left to do.

What was lost with a machine is gone on with, and what people said while no job ran is made up for. One issue that
cannot be gone on with does not keep the others waiting.
"""

import asyncio
import logging

from app.action.issue import IssueStep
from app.action.opening import Given, Workshop, open_workshop
from app.action.outcome import Outcome
from app.action.state import PREFIX, issue_of_ref, read_state
from app.action.unhandled import unhandled
from app.github.faults import HostFault
from app.github.refusals import why_ended
from engine.domain.errors import DevflowError
from engine.store import projections
from engine.workspace import state_ref
from engine.workspace.mirror import Mirror
from engine.workspace.state_ref import StateMoved

_log = logging.getLogger(__name__)


async def reconcile(given: Given, stop: asyncio.Event) -> Outcome:
    """Go on with every issue in turn; the outcome is that of the last one that something is wrong with."""
    async with open_workshop(given) as shop:
        numbers = await _issues(shop)
    looked_at, wrong = 0, None
    for number in numbers:
        if stop.is_set():
            break
        looked_at += 1
        with given.teller.group(f"Issue {number}"):
            outcome = await _look(given, number, stop)
            given.teller.tell(outcome)
        if outcome.exit_code:
            wrong = outcome
    if wrong is not None:
        return wrong
    return Outcome(f"Looked at {looked_at} of {len(numbers)} issues with something left to do.")


async def _look(given: Given, number: int, stop: asyncio.Event) -> Outcome:
    try:
        # each issue's rows get a database of their own, unless one is shared
        async with open_workshop(given) as shop:
            github = await shop.repository()
            return await IssueStep(shop, github, number, None).run(stop)
    except DevflowError as error:
        return Outcome("", issue_number=number, error=error)
    except HostFault as fault:
        return Outcome("", issue_number=number, error=why_ended(fault))


async def _issues(shop: Workshop) -> list[int]:
    """Return the issues that have something left to do."""
    github = await shop.repository()
    await github.facts()
    if shop.given.is_shared:
        async with shop.database.read() as tx:
            busy = await projections.unfinished_issues(tx, github.repository_id)
        return sorted({*busy, *(await unhandled(shop.database, github)).values()})
    mirror = await Mirror.open(shop.settings.mirrors, github.repository_id, await shop.remote())
    found = []
    for ref in await mirror.refs_of_remote(f"{PREFIX}*"):
        number = issue_of_ref(ref)
        if number is not None and await _is_live(mirror, ref, github.repository_id, number):
            found.append(number)
    return sorted(found)


async def _is_live(mirror: Mirror, ref: str, repository_id: int, number: int) -> bool:
    try:
        stored = await state_ref.read(mirror, ref)
        state = read_state(stored.files, repository_id, number) if stored else None
    except StateMoved:
        return True
    except DevflowError as error:
        _log.warning("%s", error)
        return True  # what is wrong with it is told when the issue's turn comes
    # a step that holds it and was lost has left what it was started for, whatever was there before
    return state is not None and (state.live or state.holder is not None)
