"""What is known about a run when somebody answers it: its open question, and which question they had before them."""

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import RowMapping

from app.github.shapes import Person, ReactionTarget
from app.inbound.commands.parser import NearMiss, Parsed, parse
from app.inbound.context import Context
from app.inbound.permissions import Approvers, Rules, Standing, may_steer, standing
from app.surface.replies import Say
from engine.domain.states import RequestState
from engine.store import commands, surfaces
from engine.store.approvals import OUTSIDE_PHASE

_LONG = 2_000
_READER = ThreadPoolExecutor(1, thread_name_prefix="reading")  # one, because more would take turns with the loop


@dataclass(frozen=True)
class Question:
    """A run with its frozen rules, all its requests in their order, and the one that is open."""

    run: RowMapping
    rules: Rules
    requests: list[RowMapping]

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        run_id: UUID = self.run["run_id"]
        return run_id

    @property
    def say(self) -> Say:
        """How commands are typed for this run."""
        return Say(self.run["options"].get("commands") == "prefixed")

    @property
    def pending(self) -> RowMapping | None:
        """The request that is open."""
        return next((row for row in self.requests if row["state"] == RequestState.PENDING), None)

    @property
    def is_outside(self) -> bool:
        """Whether the open request is about money or a lost conversation, and not about content."""
        return self.pending is not None and self.pending["phase_key"] == OUTSIDE_PHASE


async def commands_in(body: str, *, prefixed: bool = False) -> list[Parsed | NearMiss]:
    """Return the commands of a text; a long one is read beside the loop, which has others to answer meanwhile."""
    if len(body) < _LONG:
        return parse(body, prefixed=prefixed)
    return await asyncio.get_running_loop().run_in_executor(_READER, partial(parse, body, prefixed=prefixed))


async def received(
    context: Context, target: ReactionTarget, issue_number: int, person: Person, approvers: Approvers
) -> Standing | None:
    """Show that something was received and return who asked; None for a stranger who was answered often enough."""
    place = (context.repository.id, issue_number, person.id)
    is_tiring = context.house.strangers.is_tiring(*place)
    if not is_tiring:
        await context.acknowledge(target)
    who = await standing(context.github, person)
    if may_steer(who, approvers):
        if is_tiring:
            await context.acknowledge(target)  # they have come to rights since
    elif is_tiring:
        return None
    else:
        context.house.strangers.note(*place)
    return who


async def run_that_took(context: Context, tokens: Collection[str]) -> RowMapping | None:
    """Return the run that has taken one of these tokens already, or None."""
    async with context.house.database.read() as tx:
        run_id = await commands.run_that_took(tx, context.repository.id, tokens)
    return None if run_id is None else await context.engine.row(run_id)


async def question_of(context: Context, run: RowMapping) -> Question:
    """Return what is known about a run as it stands now."""
    row = await context.engine.row(run["run_id"])
    metadata = (await context.engine.inputs(run["run_id"]))["metadata"]
    rules = Rules.of_run(row["options"], metadata, only_by_name=not context.house.ids_are_proven)
    return Question(row, rules, await context.engine.requests(run["run_id"]))


async def seen_by(context: Context, question: Question, at: datetime, comment_id: int) -> UUID | None:
    """Return the newest request whose comment stood there when another comment was written, None where there is none.

    GitHub's times are whole seconds; within one, the ids of the comments decide.
    """
    async with context.house.database.read() as tx:
        for request in reversed(question.requests):
            key = f"run/{question.run_id}/gate/{request['request_id']}"
            shown = await surfaces.get(tx, context.repository.id, key)
            if shown is None or shown["external_id"] is None or shown["external_at"] is None:
                continue
            if (shown["external_at"], int(shown["external_id"])) < (at, comment_id):
                request_id: UUID = request["request_id"]
                return request_id
    return None
