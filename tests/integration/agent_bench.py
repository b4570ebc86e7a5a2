"""What the tests of agents share: a leased run as rows, a desk for its phase, and tools that only remember."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping, insert, select, update

from engine.agents.base import Limits, Reply, ToolCall, ToolResult, ToolSpec, Usage
from engine.agents.conversation import Conversation, Desk, find_or_open
from engine.agents.loop import run_attempt
from engine.agents.openai_agent import OpenAIModel
from engine.agents.turn import RetryPolicy
from engine.domain.ids import uuid7
from engine.domain.pricing import Price, PriceTable
from engine.domain.states import RunState
from engine.metering import Meter
from engine.store.agent_tables import ledger, session_messages, tool_calls
from engine.store.database import Database, Lease
from engine.store.ledger import CallContext
from engine.store.tables import repositories, runs, templates

DESK = Desk("spec", 1, "architect", "ada", "h" * 64, "scripted", "tree-1")
PRICES = PriceTable({"scripted": Price(input=Decimal(10), output=Decimal(100))})
QUICK = RetryPolicy(max_attempts=3, initial_delay=0.001, longest_wait=5)
PROMPT = [{"role": "system", "content": "You are Ada."}, {"role": "user", "content": "hello"}]


async def leased_run(database: Database, *, budget: str | None = None) -> Lease:
    """Insert a run that a worker holds at epoch 1."""
    lease = Lease(-1, uuid7(), uuid7(), 1)
    async with database.transaction() as tx:
        if await tx.maybe(select(repositories)) is None:
            await tx.execute(insert(repositories).values(repository_id=-1, location="/repo"))
            await tx.execute(
                insert(templates).values(repository_id=-1, hash="t", name="development", version=1, body="{}")
            )
        number = len(await tx.all(select(runs.c.run_id))) + 1
        await tx.execute(
            insert(runs).values(
                repository_id=-1,
                run_id=lease.run_id,
                number=number,
                issue_number=number,
                title="a run",
                workflow="development",
                template_hash="t",
                state=RunState.EXECUTING,
                queue="advance_run",
                branch=f"devflow/{number}",
                base_branch="main",
                base_sha="0" * 40,
                head_sha="0" * 40,
                options={},
                budget_usd=None if budget is None else Decimal(budget),
                lease_worker=lease.worker_id,
                epoch=lease.epoch,
            )
        )
    return lease


async def taken_over(database: Database, lease: Lease) -> Lease:
    """Let another worker take the run's lease."""
    new = Lease(lease.repository_id, lease.run_id, uuid7(), lease.epoch + 1)
    async with database.transaction() as tx:
        changed = update(runs).where(runs.c.run_id == lease.run_id)
        await tx.execute(changed.values(lease_worker=new.worker_id, epoch=new.epoch))
    return new


async def rows(database: Database, table: Any, order: Any) -> list[RowMapping]:
    """Return all rows of a table."""
    async with database.transaction() as tx:
        return await tx.all(select(table).order_by(order))


async def ledger_rows(database: Database) -> list[RowMapping]:
    """Return the ledger in the order of its calls."""
    return await rows(database, ledger, ledger.c.started_at)


async def audit(database: Database) -> list[tuple[str, str]]:
    """Return the tool calls as (call key, status)."""
    found = await rows(database, tool_calls, tool_calls.c.started_at)
    return [(row["call_key"], row["status"]) for row in found]


async def stored_messages(database: Database) -> list[dict[str, Any]]:
    """Return the messages of the only session."""
    return [row["message"] for row in await rows(database, session_messages, session_messages.c.seq)]


async def run_row(database: Database, lease: Lease) -> RowMapping:
    """Return the run as it stands."""
    async with database.transaction() as tx:
        return await tx.one(select(runs).where(runs.c.run_id == lease.run_id))


def context(conversation: Conversation, *, backend: str = "openai", model: str = "scripted") -> CallContext:
    """Return who calls which model in this conversation."""
    return CallContext("spec", conversation.session_id, "ada", 3, backend, model, "architect")


def reply(text: str = "fine", *wanted: ToolCall, usage: Usage | None = None, finish: str = "stop") -> Reply:
    """Return a model's turn."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if wanted:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in wanted
        ]
    return Reply(message, text, wanted, usage or Usage(100, 20), finish, "request-1")


@dataclass
class Toolbox:
    """Tools that remember what they were asked; `submit_artifact` hands its artifact on, `behave` may replace any."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    behave: Callable[[str, str], Any] | None = None

    @property
    def specs(self) -> list[ToolSpec]:
        return [
            {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
            for name in ("read_file", "submit_artifact")
        ]

    async def call(self, name: str, arguments: str) -> ToolResult:
        self.asked.append((name, arguments))
        if self.behave is not None:
            answer = await self.behave(name, arguments)
            if isinstance(answer, ToolResult):
                return answer
        try:
            given = json.loads(arguments)
        except ValueError:
            return ToolResult(f"{arguments!r} is no JSON", ok=False)
        if name == "submit_artifact":
            return ToolResult("accepted", submission=given["artifact"])
        return ToolResult(f"{name} did {arguments}")


@dataclass
class Bench:
    """One persona at its desk: everything that an attempt needs."""

    database: Database
    lease: Lease
    model: OpenAIModel
    conversation: Conversation
    tools: Toolbox
    meter: Meter

    async def attempt(self, before_turn: Callable[[], None] = lambda: None, **limits: int) -> Any:
        """Let the model work on the last prompt."""
        return await run_attempt(
            self.model, self.tools, self.conversation, self.meter, Limits(**limits), QUICK, before_turn
        )

    async def reopened(self, lease: Lease | None = None) -> "Bench":
        """Return the bench as another process finds it."""
        lease = lease or self.lease
        conversation = await find_or_open(self.database, lease, DESK)
        meter = Meter(self.database, lease, context(conversation), PRICES)
        return Bench(self.database, lease, self.model, conversation, Toolbox(), meter)


async def set_up(database: Database, model: OpenAIModel, *, budget: str | None = None, prices: Any = PRICES) -> Bench:
    """Return a bench whose conversation has its first prompt."""
    lease = await leased_run(database, budget=budget)
    conversation = await find_or_open(database, lease, DESK)
    await conversation.prompt(PROMPT, "first", 1)
    meter = Meter(database, lease, context(conversation), prices)
    return Bench(database, lease, model, conversation, Toolbox(), meter)
