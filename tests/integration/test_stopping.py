"""A person's abort or pause holds: against a worker that was only slow, a fault that comes at once, and a lost call."""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.local.remotes import LocalRemotes
from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.metering import Meter
from engine.ports import Remote
from engine.store import leases, workers
from engine.store.agent_tables import agent_sessions, ledger
from engine.store.database import Database, Lease
from engine.store.ledger import CallContext
from engine.store.workers import WorkerIdentity
from engine.workspace import worktree
from tests.integration.agent_bench import PRICES
from tests.model_server import Script, calls, serving
from tests.support.cassettes import SPEC, submit
from tests.support.engines import House, at_rest, phase, poll, small_house

GIVES_UP_NEVER = {"heartbeat_seconds": 1000.0, "worker_dead_after_seconds": 100_000.0}


def think(**more: Any) -> dict[str, Any]:
    return phase("think", "thinker", "dev/spec@1", **more)


async def held(house: House, run_id: UUID) -> tuple[Lease, WorkerIdentity]:
    """Return the lease that a worker of this process holds on the run."""
    worker = WorkerIdentity.of_this_process()
    async with house.database.transaction() as tx:
        await workers.register(tx, worker)
    return await leases.take(house.database, run_id, worker.worker_id, 30), worker


async def idle(house: House) -> bool | None:
    """True once no process of an agent's runs in the house any more: two looks apart, the ledger has not grown."""
    before = len(await house.rows(ledger))
    await asyncio.sleep(0.8)
    return True if len(await house.rows(ledger)) == before else None


@pytest.mark.parametrize("action", ["abort", "pause"])
async def test_a_worker_taken_for_dead_spends_nothing_after_a_person_stopped_its_run(
    tmp_path: Path, database: Database, action: str
) -> None:
    look = calls(("run_command", {"command": "sleep 0.1"}))
    with serving(Script(rules=[{"when": "# Phase", "turns": [look] * 400}])) as server:
        house = small_house(tmp_path, database, think(), settings=GIVES_UP_NEVER).served_by(server)
        other = house.with_settings(worker_dead_after_seconds=0.001)
        run_id = await house.start()
        end = asyncio.Event()
        worker = asyncio.create_task(house.engine.worker(run_id).run(end))

        async def busy() -> bool | None:
            return True if len(server.requests) >= 2 else None

        await poll(busy)
        if action == "abort":
            await other.answer(run_id, Action.ABORT)
        else:
            await other.engine.pause(run_id, "ada")
        asked = len(server.requests)
        await poll(lambda: idle(house))
        end.set()
        await worker

    # the worker looks at its run's row twice a second; a turn takes a tenth of one
    assert len(server.requests) <= asked + 10
    row = await house.engine.row(run_id)
    assert row["state"] == ("aborted" if action == "abort" else "paused")


@dataclass
class Interrupting(LocalRemotes):
    """A host that cannot be asked for the repository, and a person who aborts the run at that very moment."""

    house: House
    run_id: UUID
    asked: list[str] = field(default_factory=list)

    async def remote(self, repository_id: int, location: str) -> Remote:
        """Fail, once the abort is recorded."""
        if self.asked:
            return await super().remote(repository_id, location)
        self.asked.append(location)
        await self.house.answer(self.run_id, Action.ABORT, by="grace", note="enough")
        raise DevflowError("repository_not_found", "gone for a moment")


async def test_an_abort_holds_where_the_run_would_have_paused_at_that_moment(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, think())
    run_id = await house.start({"think/1/1": [submit(SPEC)]})

    run = await house.with_remotes(Interrupting(house, run_id)).drive(run_id)

    assert run["state"] == "aborted"
    (event,) = await house.events(run_id, "run.aborted")
    assert event["payload"] == {"by": "grace", "note": "enough"}
    assert await house.events(run_id, "run.paused") == []


async def test_a_pause_does_not_take_an_abort_back(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    run_id = await house.start({"think/1/1": [submit(SPEC)]})
    await held(house, run_id)
    await house.answer(run_id, Action.ABORT)

    with pytest.raises(DevflowError) as refused:
        await house.engine.pause(run_id, "grace")

    assert refused.value.code == "illegal_transition"
    assert (await house.engine.row(run_id))["requested_action"] == "abort"


async def test_a_call_that_nobody_ended_is_charged_when_its_run_is_aborted(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    run_id = await house.start({"think/1/1": [submit(SPEC)]})
    lease, worker = await held(house, run_id)
    context = CallContext("think", run_id, "analyst", 1, "openai", "scripted", "thinker")
    await Meter(house.database, lease, context, PRICES).reserve(0, 10_000, 9_000)
    async with house.database.transaction() as tx:
        await workers.stop(tx, worker.worker_id)

    await house.answer(run_id, Action.ABORT)
    await house.engine.settle(run_id)

    run = await house.engine.row(run_id)
    assert at_rest(run)
    assert (run["reserved_usd"], run["spent_usd"]) == (Decimal(0), Decimal(1))
    assert [row["status"] for row in await house.rows(ledger)] == ["unknown"]
    report = await house.report(run_id)
    assert report["cost"]["cost_usd"] == 1.0


async def test_a_note_that_the_database_cannot_keep_is_kept_without_what_it_cannot(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, think(gates=["look"]))
    run_id, _ = await house.run({"think/1/1": [submit(SPEC)]})

    await house.answer(run_id, Action.REJECT, note="no\x00\udcff")

    (event,) = await house.events(run_id, "approval.resolved")
    assert event["payload"]["note"] == "no\ufffd?"


async def test_a_run_that_has_ended_leaves_no_live_session(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think(), phase("more", "thinker", "dev/spec@1", gates=["look"]))
    run_id, _ = await house.run({"think/1/1": [submit(SPEC)], "more/1/1": [submit(SPEC)]})

    await house.answer(run_id, Action.ABORT)

    assert [row["state"] for row in await house.rows(agent_sessions)] == ["CLOSED", "CLOSED"]


async def test_a_worktree_that_cannot_be_deleted_keeps_no_run_from_its_end(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = small_house(tmp_path, database, think(gates=["look"]))
    run_id, _ = await house.run({"think/1/1": [submit(SPEC)]})
    (tree,) = (tmp_path / "data" / "workspaces").iterdir()
    monkeypatch.setattr(worktree, "_delete", _refuse)  # root, as which tests may run, can delete everything

    await house.answer(run_id, Action.REJECT)
    await house.engine.write_missing_reports()

    assert at_rest(await house.engine.row(run_id))
    assert tree.exists()


def _refuse(path: Path) -> None:
    raise PermissionError(path)
