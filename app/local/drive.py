"""Drive one run from a terminal: a worker for this run alone, its timeline, its gates, and Ctrl-C."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import RowMapping

from app.local import console, timeline
from engine.domain.errors import EXIT_ABORTED, EXIT_FAILED, EXIT_OK, EXIT_PAUSED, DevflowError
from engine.domain.states import Action, RunState
from engine.facade import Engine
from engine.gates import Answer

_POLL_SECONDS = 0.2
_EXITS = {RunState.COMPLETED: EXIT_OK, RunState.FAILED: EXIT_FAILED, RunState.ABORTED: EXIT_ABORTED}


class Approve(StrEnum):
    """Who answers the gates of a run that is driven from here."""

    ASK = "ask"
    ALWAYS = "always"
    NEVER = "never"


def default_approve() -> Approve:
    """Ask where a person sits at a terminal, else never."""
    return Approve.ASK if sys.stdin.isatty() and sys.stderr.isatty() else Approve.NEVER


class Driver:
    """Drives one run until it ends, pauses or waits for somebody else."""

    def __init__(self, engine: Engine, run_id: UUID, *, approve: Approve, by: str, quiet: bool) -> None:
        self._engine = engine
        self._run_id = run_id
        self._approve = approve
        self._by = by
        self._quiet = quiet
        self._seen = 0
        self._lines = console.Lines()
        self._stopping = False
        self._pause_asked = False
        self._answered: set[str] = set()

    async def drive(self, *, after: int = 0, alone: bool = False) -> int:
        """Work until there is nothing to do here; returns the exit code. Events up to `after` are not printed.

        With `alone`, raises `worker_already_running` where another process was the first to take the run.
        """
        self._seen = after
        stop = asyncio.Event()
        working = self._engine.worker(self._run_id)
        worker = asyncio.create_task(working.run(stop))
        try:
            with self._signals(stop):
                if alone:
                    await self._be_first(worker, working.identity.worker_id)
                return await self._follow(worker)
        finally:
            stop.set()
            await worker

    async def _follow(self, worker: asyncio.Task[None]) -> int:
        while True:
            ended = worker.done()
            if ended:
                await worker
            run = await self._engine.row(self._run_id)
            await self._print_events(run)
            state = RunState(run["state"])
            handed_back = run["lease_worker"] is None
            if state.terminal and (ended or (run["final_report_path"] and handed_back)):
                await self._print_events(run)
                return _EXITS[state]
            under_way = state in (RunState.CREATED, RunState.EXECUTING)
            # what was asked of a worker that has ended meanwhile has to be asked again, and holds at once
            if self._stopping and under_way and (ended or not self._pause_asked):
                await self._pause()
            if ended:
                return EXIT_PAUSED
            if state is RunState.PAUSED and handed_back and not await self._answer_pause():
                return EXIT_PAUSED
            if (
                state is RunState.AWAITING_APPROVAL
                and handed_back
                and (self._stopping or not await self._answer_gate())
            ):
                return EXIT_OK
            await asyncio.sleep(_POLL_SECONDS)

    async def _be_first(self, worker: asyncio.Task[None], worker_id: UUID) -> None:
        while not worker.done():
            run = await self._engine.row(self._run_id)
            holder = run["lease_worker"]
            if holder == worker_id or RunState(run["state"]) not in (RunState.CREATED, RunState.EXECUTING):
                return
            other = None if holder is None else await self._engine.other_holder(self._run_id, worker_id)
            if other is not None:
                raise DevflowError("worker_already_running", f"the run is being worked on by {other}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _print_events(self, run: RowMapping) -> None:
        started: datetime = run["created_at"]
        for event in await self._engine.events(self._run_id, self._seen):
            self._seen = event["seq"]
            text = timeline.line(event, started)
            if text is not None and not self._quiet:
                console.say(text)

    async def _answer_gate(self) -> bool:
        """Answer the pending gate; False where it has to wait for somebody else."""
        asked = await self._engine.pending_document(self._run_id)
        if asked is None:
            return True
        if self._approve is Approve.NEVER:
            return False
        if self._approve is Approve.ALWAYS:
            if asked["request_id"] in self._answered:
                return False  # this person alone is not enough
            self._answered.add(asked["request_id"])
            return await self._decide(Action.APPROVE, None, asked) or await self._is_answered(asked["request_id"])
        return await self._ask(asked)

    async def _is_answered(self, request_id: str) -> bool:
        current = await self._engine.pending_document(self._run_id)
        return current is None or current["request_id"] != request_id

    async def _answer_pause(self) -> bool:
        """Answer a budget or session question; False where the run stays paused."""
        if self._stopping or self._approve is not Approve.ASK:
            return False
        asked = await self._engine.pending_document(self._run_id)
        return asked is not None and await self._ask(asked)

    async def _ask(self, asked: dict[str, Any]) -> bool:
        console.show_markdown(asked["markdown"])
        budget = asked["gate_key"] == "budget_exceeded"
        example = "approve +2.00" if budget else "approve, revise WHAT TO CHANGE"
        console.say(f"Gate {asked['gate_key']}: {example}, reject WHY, abort; an empty line leaves it pending.")
        while True:
            line = await self._line_or_answer_elsewhere(asked["request_id"])
            if line is None:
                return True
            word, _, note = line.strip().removeprefix("/").partition(" ")
            if word == "":
                return False
            if word.lower() not in tuple(Action):
                console.say(f"{word!r} is none of approve, revise, reject, abort")
                continue
            if await self._decide(Action(word.lower()), note.strip() or None, asked):
                return True

    async def _line_or_answer_elsewhere(self, request_id: str) -> str | None:
        """Return the line that the person types ('' at the end of input), or None once somebody else answered."""
        typed = asyncio.create_task(self._lines.next())
        try:
            while not typed.done():
                await asyncio.wait({typed}, timeout=_POLL_SECONDS)
                if self._stopping:
                    return ""
                current = await self._engine.pending_document(self._run_id)
                if not typed.done() and (current is None or current["request_id"] != request_id):
                    console.say("The gate was answered elsewhere.")
                    return None
            return typed.result() or ""
        finally:
            if not typed.done():
                typed.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await typed

    async def _decide(self, action: Action, note: str | None, asked: dict[str, Any]) -> bool:
        answer = Answer(action, by=self._by, token=str(uuid4()), note=note, sha=asked["commit"])
        try:
            decided = await self._engine.answer(self._run_id, answer)
        except DevflowError as error:
            if error.spec.http_status == 503:
                raise
            console.show_error(error, as_json=False)
            return error.code == "approval_superseded"
        if decided.missing_approvals:
            console.say(f"Recorded; {decided.missing_approvals} more approval(s) needed, by other people.")
            return self._approve is Approve.ASK and await self._wait_for_others(asked["request_id"])
        return True

    async def _wait_for_others(self, request_id: str) -> bool:
        console.say("An empty line leaves the gate pending.")
        return await self._line_or_answer_elsewhere(request_id) is None

    @contextlib.contextmanager
    def _signals(self, stop: asyncio.Event) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if self._stopping:
                stop.set()
                return
            self._stopping = True
            console.say("Stopping at the next safe point; once more stops at once.")

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _pause(self) -> None:
        try:
            await self._engine.pause(self._run_id, self._by)
        except DevflowError as error:
            if error.code not in ("illegal_transition", "run_already_terminal"):
                raise
        else:
            self._pause_asked = True
