"""The keeper of one issue's state while a step works on it: takes it in hand, keeps it safe, lets it go.

Nothing that people can see is done before the state that calls for it is kept (`keep`), so whatever happens to this
machine, the next step goes on from there. The holder says every few seconds that it lives; a step that comes meanwhile
leaves its event and waits until the holder has taken it in, or has been silent for so long that its place is free.
"""

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

from app.action.packing import IssueRows
from app.action.state import Holder, IssueState, invalid, is_heard, read_state, state_ref
from app.clock import Clock
from engine.domain.errors import DevflowError, Fenced
from engine.settings import Settings
from engine.store.deliveries import NewDelivery
from engine.workspace import state_ref as refs
from engine.workspace.mirror import Mirror
from engine.workspace.state_ref import StateMoved

_BEATS = 3
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_log = logging.getLogger(__name__)


class Keeping(Protocol):
    """What a step asks of whoever keeps its state.

    `unsure_since`: since then, a step that was lost may have made things of which nothing was kept.
    """

    unsure_since: datetime | None

    async def keep(self) -> None:
        """Return when everything that is committed so far would survive this machine; raises where it would not."""

    async def run(self, stop: asyncio.Event) -> None:
        """Keep what changes until `stop` is set."""


class DatabaseKeeps:
    """The keeper where the database is not this step's own: it keeps everything by itself."""

    unsure_since: datetime | None = None

    async def keep(self) -> None:
        """Do nothing."""

    async def run(self, stop: asyncio.Event) -> None:
        """Wait."""
        await stop.wait()


class NothingIsKept(DatabaseKeeps):
    """The keeper where there is no run: what earlier steps have answered is not known, and looked for."""

    unsure_since: datetime | None = _LONG_AGO


class Keeper:
    """Keeps one issue's state behind its ref; `url` is the page of the job that holds it, `attempt` which try it is.

    A push costs more than a heartbeat in a database, so a holder says three times less often that it lives, and is
    given three times as long.
    """

    def __init__(
        self, rows: IssueRows, mirror: Mirror, clock: Clock, settings: Settings, *, url: str, attempt: int
    ) -> None:
        self._rows = rows
        self._mirror = mirror
        self._clock = clock
        self._url = url
        self._attempt = attempt
        self._every = _BEATS * settings.heartbeat_seconds
        self._dead_after = _BEATS * settings.worker_dead_after_seconds
        self._id: UUID = uuid4()
        self._ref = state_ref(rows.issue_number)
        self._lock = asyncio.Lock()
        self._kept: str | None = None  # the commit behind the ref, as far as this step knows
        self._mark: Any = None
        self._heard_at = clock.now()
        self.unsure_since: datetime | None = None

    async def take(self, delivery: NewDelivery | None) -> IssueState | None:
        """Take the issue in hand and return its state, unpacked into the database; None: another step does the work.

        While one holds the issue, the event is left for it, and this step waits until it has been taken in. Raises
        `state_invalid` and `snapshot_invalid`, and leaves such a state as it is.
        """
        left = False
        while True:
            try:
                stored = await refs.read(self._mirror, self._ref)
                self._kept = stored.commit if stored else None
                state = self._state(stored.files if stored else None)
                if not self._is_held(state.holder):
                    return await self._take(state)
                _log.warning("issue %s is held by %s", self._rows.issue_number, state.holder and state.holder.url)
                if delivery is None or (left and delivery not in state.handed):
                    return None
                if delivery not in state.handed:
                    await self._write(replace(state, handed=(*state.handed, delivery)))
                left = True
            except StateMoved as moved:
                _log.info("%s", moved)
                continue
            await asyncio.sleep(self._every / 5)

    async def keep(self) -> None:
        """Keep what has happened since the last time, if anything has; raises `Fenced` where the issue was lost."""
        async with self._lock:
            mark = await self._rows.mark()
            if mark != self._mark or self._silent() >= 2 * self._every:
                await self._save(self._holder())

    async def run(self, stop: asyncio.Event) -> None:
        """Keep what changes, and say that this step lives, until `stop` is set.

        Raises `Fenced` where another step has taken the issue over, or may have, because nothing could be kept for too
        long.
        """
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await stop.wait()
            if stop.is_set():
                return
            try:
                async with self._lock:
                    await self._save(self._holder())
            except DevflowError as error:
                if error.code != "github_unavailable":
                    raise
                _log.warning("the state cannot be kept now: %s", error)
                if self._silent() > self._dead_after - self._every:
                    raise Fenced("the state could not be kept for so long that another step may have it") from error

    async def release(self) -> bool:
        """Keep everything and let the issue go; raises `Fenced` where it was lost.

        Where nothing has come of it, nothing is left in the repository.

        False where another step has left an event meanwhile: it is stored, and still to be handled by this one.
        """
        async with self._lock:
            while True:
                try:
                    if await self._rows.are_worth_keeping():
                        await self._write(await self._packed(None))
                    else:
                        await self._delete()
                except StateMoved:
                    if await self._look_again():
                        await self._save(self._holder())
                        return False
                else:
                    return True

    async def give_back(self, state: IssueState) -> None:
        """Let the issue go as it was found, because nothing may be done with it."""
        try:
            if state.content():
                await self._write(replace(state, holder=None))
            else:
                await self._delete()
        except StateMoved as moved:
            _log.info("%s", moved)

    async def _take(self, found: IssueState) -> IssueState:
        holder = self._holder()
        if found.holder is not None:
            _log.warning("the step %s was lost; this one goes on", found.holder.url)
            # not when that step was last heard of: it may itself have gone on from one that was lost
            self.unsure_since = _LONG_AGO
        await self._write(replace(found, holder=holder))
        self._heard_at = holder.heard_at
        try:
            await self._rows.unpack(found.runs, found.issue_rows)
            await self._rows.take_in(found.handed)
        except DevflowError as error:
            await self.give_back(found)
            if error.code in ("snapshot_invalid", "snapshot_conflict"):
                refusal = invalid(self._rows.issue_number, error.message)
                if error.recovery_hint != error.spec.hint:
                    refusal.recovery_hint = error.recovery_hint  # of another version: it need not be deleted
                raise refusal from error
            raise
        return found

    async def _save(self, holder: Holder) -> None:
        while True:
            mark = await self._rows.mark()
            try:
                await self._write(await self._packed(holder))
            except StateMoved:
                await self._look_again()
            else:
                self._mark, self._heard_at = mark, holder.heard_at
                return

    async def _packed(self, holder: Holder | None) -> IssueState:
        packed, issue_rows = await self._rows.pack()
        live = await self._rows.is_live()
        return IssueState(self._rows.repository_id, self._rows.issue_number, packed, issue_rows, holder, live=live)

    async def _look_again(self) -> bool:
        """Find out who has written the state: a step that left an event for us (True), or one that has taken over.

        False where it was this step itself, whose push was answered too late.
        """
        stored = await refs.read(self._mirror, self._ref)
        if stored is None:
            raise Fenced(f"somebody has deleted {self._ref} while this step was at work on the issue")
        state = self._state(stored.files)
        if state.holder is None or state.holder.id != self._id:
            other = f": {state.holder.url}" if state.holder else ""
            raise Fenced(f"another step has taken issue {self._rows.issue_number} over{other}")
        await self._rows.take_in(state.handed)
        self._kept = stored.commit
        return bool(state.handed)

    async def _write(self, state: IssueState) -> None:
        message = f"State of issue {self._rows.issue_number}"
        self._kept = await refs.write(self._mirror, self._ref, state.to_files(), expected=self._kept, message=message)

    async def _delete(self) -> None:
        if self._kept is not None:
            await refs.delete(self._mirror, self._ref, expected=self._kept)
            self._kept = None

    def _state(self, files: Any) -> IssueState:
        repository_id, issue_number = self._rows.repository_id, self._rows.issue_number
        if files is None:
            return IssueState(repository_id, issue_number)
        return read_state(files, repository_id, issue_number)

    def _is_held(self, holder: Holder | None) -> bool:
        if holder is None or (holder.url == self._url and holder.attempt < self._attempt):
            return False  # a job is run again only when it has ended
        return is_heard(holder, self._clock.now(), self._dead_after)

    def _silent(self) -> float:
        return (self._clock.now() - self._heard_at).total_seconds()

    def _holder(self) -> Holder:
        return Holder(id=self._id, url=self._url, attempt=self._attempt, heard_at=self._clock.now())
