"""The inbox: one stored delivery at a time is claimed, read into an event, handled, and answered on GitHub.

What the handler decided is stored before any of it is carried out. A fault that passes puts the delivery off, as long
as it takes; a call that GitHub refuses, and what nobody foresaw, is tried a few times and then kept as failed, and
whoever wanted something by it is told.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import RowMapping

from app.github.events import (
    Event,
    InstallationChanged,
    IssueEvent,
    PullEvent,
    RepositoryEvent,
    Unreadable,
    parse,
)
from app.github.faults import Gone, HostFault, Refused, RetryLater
from app.github.refusals import named
from app.inbound import handlers
from app.inbound.context import Context, House
from app.inbound.responses import Handled, Reaction, Reply, Response, from_json, ignored, to_json
from app.inbound.router import router
from app.surface import replies
from app.surface.applier import Applier
from engine.domain.errors import DevflowError, Fenced, Kind
from engine.store import deliveries

MAX_ATTEMPTS = 5
LONGEST = timedelta(days=3)
_DELAY_FIRST = timedelta(seconds=5)
_DELAY_MOST = timedelta(minutes=5)
_log = logging.getLogger(__name__)


class Inbox:
    """Handles deliveries as `worker_id`; an attendant calls `handle` for each that rings or that `waiting` names."""

    def __init__(self, house: House, worker_id: UUID, dead_after_seconds: float) -> None:
        self._house = house
        self._worker_id = worker_id
        self._dead_after_seconds = dead_after_seconds
        self._replying: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def waiting(self) -> list[str]:
        """Return the deliveries that are due."""
        async with self._house.database.read() as tx:
            now = self._house.clock.now()
            return await deliveries.waiting(tx, now, self._worker_id, self._dead_after_seconds)

    async def handle(self, delivery_id: str) -> None:
        """Handle one delivery, if it is due and nobody else does.

        Raises only `database_unavailable`, `token_refused` and `Fenced`.
        """
        async with self._house.database.transaction() as tx:
            now = self._house.clock.now()
            row = await deliveries.claim(tx, delivery_id, self._worker_id, now, self._dead_after_seconds)
        if row is None:
            return
        try:
            await self._handle(row)
        except (RetryLater, Gone, Refused) as fault:
            await self._after_fault(row, fault)
        except Fenced:
            raise
        except DevflowError as error:
            if error.code == "database_unavailable":
                raise
            if error.code == "token_refused":
                await self._postpone(row, None, _brief(error))
                raise
            await self._after_error(row, error, transient=error.spec.kind is Kind.RECOVERABLE)
        except Exception as error:  # noqa: BLE001 - logged below, with its traceback
            await self._after_error(row, error, transient=False)

    async def _handle(self, row: RowMapping) -> None:
        try:
            event = parse(row["event"], bytes(row["body"]))
        except Unreadable as unreadable:
            _log.error("delivery %s (%s) cannot be read: %s", row["delivery_id"], row["event"], unreadable)
            await self._finish(row, "unreadable", str(unreadable)[:500], 0)
            return
        handled, context = await self._decide(row, event)
        if context is not None:
            await self._house.keep()
            await self._carry_out(context, handled.responses)
        repository_id = context.repository.id if context else 0
        await self._finish(row, "ignored" if handled.ignored else "handled", handled.outcome[:500], repository_id)

    async def _decide(self, row: RowMapping, event: Event | None) -> tuple[Handled, Context | None]:
        if event is None:
            return ignored("not one of our events"), None
        if isinstance(event, InstallationChanged):
            return await handlers.installations.installation_changed(self._house, event), None
        handler = router.handler(event)
        if handler is None or not isinstance(event, RepositoryEvent):
            return ignored(f"nothing is done about {type(event).__name__}"), None
        installation_id = self._house.app.installation_of(event)
        if installation_id is None:
            return ignored("it came through no installation of the App"), None
        context = await self._context(event, installation_id)
        doubt = await self._house.doubts(row["delivery_id"], bytes(row["body"]), context.github, event)
        if doubt is not None:
            _log.warning("delivery %s (%s) is not believed: %s", row["delivery_id"], row["event"], doubt)
            return ignored(f"not believed: {doubt}"), None
        if row["responses"] is not None:
            return from_json(row["responses"]), context
        try:
            handled: Handled = await handler(context, event)
        except Exception as error:
            if self._is_given_up(row, error):
                await self._apologise(context, event, row["delivery_id"], error)
            raise
        handled = replace(handled, responses=[*context.late, *handled.responses])
        if handled.responses:
            async with self._house.database.transaction() as tx:
                await deliveries.decide(tx, row["delivery_id"], self._worker_id, to_json(handled))
        return handled, context

    async def _apologise(self, context: Context, event: RepositoryEvent, delivery_id: str, error: Exception) -> None:
        """Tell somebody who wants something that nothing comes of it; nobody is left to wait for ever."""
        if not isinstance(event, IssueEvent | PullEvent) or context.wish is None:
            return
        number = event.issue.number if isinstance(event, IssueEvent) else event.pull.number
        login = event.sender.login
        text = replies.refused_by_github(login) if isinstance(error, HostFault) else replies.unforeseen(login)
        answers: list[Response] = [Reaction(context.wish, "confused"), Reply(f"delivery/{delivery_id}", number, text)]
        await self._carry_out(context, answers)

    async def _context(self, event: RepositoryEvent, installation_id: int) -> Context:
        repository = event.repository
        github = await self._house.app.open(
            repository.id, installation_id, repository.full_name, repository.default_branch
        )
        return Context(self._house, repository, github)

    async def _carry_out(self, context: Context, responses: Sequence[Response]) -> None:
        """Give every answer that GitHub takes; one that it refuses, as on a locked issue, is logged and left out."""
        house = self._house
        applier = Applier(house.database, context.github, house.clock, unsure_since=house.unsure_since)
        for response in responses:
            try:
                if isinstance(response, Reply):
                    # two comments may call for the same reply, and the second one has to see the first
                    async with self._replying[context.repository.id]:
                        await applier.reply(response.key, response.issue_number, response.body)
                else:
                    await context.github.react(response.target, response.content)
            except (Gone, Refused) as fault:
                context.github.refusals.note(f"answer/{context.repository.id}", fault)
                _log.warning("%s was not answered: %s", context.repository.full_name, fault)

    async def _after_fault(self, row: RowMapping, fault: HostFault) -> None:
        if not self._is_given_up(row, fault):
            await self._postpone(row, fault.at if isinstance(fault, RetryLater) else None, str(fault))
            return
        self._house.app.refusals.note(f"delivery/{row['delivery_id']}", fault)
        _log.warning("delivery %s (%s) came to nothing: %s", row["delivery_id"], row["event"], fault)
        await self._finish(row, "failed", str(fault)[:500], 0)

    async def _after_error(self, row: RowMapping, error: Exception, *, transient: bool) -> None:
        name = f"delivery {row['delivery_id']} ({row['event']})"
        if transient:
            _log.warning("%s is put off: %s", name, error)
        elif self._is_given_up(row, error):
            _log.error("%s failed %d times and is given up", name, row["attempts"], exc_info=error)
            await self._finish(row, "failed", _brief(error), 0)
            return
        else:
            _log.error("%s failed and is tried again", name, exc_info=error)
        await self._postpone(row, None, _brief(error))

    def _is_given_up(self, row: RowMapping, error: Exception) -> bool:
        """Tell whether a delivery is not tried again after this error."""
        if isinstance(error, RetryLater):
            return bool(self._house.clock.now() - row["received_at"] > LONGEST)
        if isinstance(error, DevflowError) and (error.code == "token_refused" or error.spec.kind is Kind.RECOVERABLE):
            return False
        # what GitHub refuses for want of a right stays so where our rights do
        is_final = isinstance(error, Gone) or (self._house.app.rights_are_fixed and _lacks_a_right(error))
        return is_final or row["attempts"] >= MAX_ATTEMPTS

    async def _postpone(self, row: RowMapping, at: datetime | None, why: str) -> None:
        delay = min(_DELAY_FIRST * 2 ** min(row["attempts"] - 1, 10), _DELAY_MOST)
        until = at or self._house.clock.now() + delay
        async with self._house.database.transaction() as tx:
            await deliveries.postpone(tx, row["delivery_id"], self._worker_id, until, why[:500])

    async def _finish(self, row: RowMapping, state: deliveries.Finished, outcome: str, repository_id: int) -> None:
        async with self._house.database.transaction() as tx:
            await deliveries.finish(tx, row["delivery_id"], self._worker_id, state, outcome, repository_id)


def _lacks_a_right(error: Exception) -> bool:
    return isinstance(error, HostFault) and named(error) is not None


def _brief(error: Exception) -> str:
    said = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {said[0]}"[:500]
