"""The engine in this process: real git, Postgres and agents, driven to its next stop and read as a person reads it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import yaml
from sqlalchemy import RowMapping, select

from app.local.remotes import LocalRemotes
from engine.domain.states import Action, RunState
from engine.facade import Engine
from engine.gates import Answer, Decided
from engine.ports import Remotes
from engine.settings import Settings
from engine.start import StartRequest
from engine.store.database import Database
from tests.model_server import ModelServer
from tests.support.cassettes import Turn, cassette
from tests.support.repositories import make_repository

Json = dict[str, Any]
ISSUE = "# The answer is wrong\n\nanswer() must return 42.\n"
CODE = "def answer():\n    return 41\n"
PATIENCE = 240.0


def phase(key: str, role: str = "author", schema: str | None = "dev/change@1", **more: Any) -> Json:
    """Return a phase of a small workflow; its artifact lies at `out/KEY.json`, `schema` None means that it has none."""
    made: Json = {"key": key, "title": f"Phase {key}", "role": role, "instructions": f"Do {key}.", "gates": []} | more
    if schema is not None:
        made.setdefault("expected_artifact", {"path": f"out/{key}.json", "schema": schema})
    return made


def workflow(*phases: Json, **more: Any) -> str:
    """Return the YAML of workflow `small`: `author` writes code, `thinker` only documents, `reviewer` reviews."""
    roles: list[Json] = [
        {"id": "author", "required_capabilities": ["code_write"]},
        {"id": "thinker", "required_capabilities": ["spec_write"]},
        {"id": "reviewer", "required_capabilities": ["code_review"], "distinct_from": ["author"]},
    ]
    return _dump({"name": "small", "version": 1, "roles": roles, "phases": list(phases)} | more)


def config(**values: Any) -> str:
    """Return a `.github/devflow.yml`; without `checks` there are none."""
    return _dump({"workflow": "small", "checks": {}} | values)


@dataclass
class House:
    """One engine with a repository: what most scenarios need."""

    engine: Engine
    repository: Path

    @property
    def database(self) -> Database:
        """The engine's database."""
        return self.engine.database

    def with_settings(self, **values: Any) -> "House":
        """Return the same house with an engine of other settings, as another process would have it."""
        return House(Engine(replace(self.engine.settings, **values), self.database, LocalRemotes()), self.repository)

    def with_remotes(self, remotes: Remotes) -> "House":
        """Return the same house with a host that answers so when it is asked for the repository."""
        return House(Engine(self.engine.settings, self.database, remotes), self.repository)

    def served_by(self, server: ModelServer) -> "House":
        """Return the same house with that model server."""
        return self.with_settings(openai_base_url=server.base_url, openai_api_key="key-of-the-test", model="scripted")

    async def start(self, turns: dict[str, list[Turn]] | None = None, issue: str = ISSUE, **more: Any) -> UUID:
        """Start a run, of a recorded agent where `turns` are given."""
        recorded = None if turns is None else ("test.yaml", cassette(turns))
        request = StartRequest(repository=self.repository, issue_text=issue, by="ada", cassette=recorded, **more)
        return await self.engine.start(request)

    async def drive(self, run_id: UUID) -> RowMapping:
        """Let a worker of this run's own work until the run has ended or waits; returns its row."""
        return await self.drive_until(run_id, at_rest)

    async def drive_until(self, run_id: UUID, reached: Callable[[RowMapping], bool]) -> RowMapping:
        """Let a worker work until the run's row is as wanted, then stop it."""
        stop = asyncio.Event()
        worker = asyncio.create_task(self.engine.worker(run_id).run(stop))
        try:
            return await self.wait(run_id, reached)
        finally:
            stop.set()
            await worker

    async def wait(self, run_id: UUID, reached: Callable[[RowMapping], bool]) -> RowMapping:
        """Wait until the run's row is as wanted."""

        async def look() -> RowMapping | None:
            row = await self.engine.row(run_id)
            return row if reached(row) else None

        return await poll(look)

    async def run(self, turns: dict[str, list[Turn]] | None = None, **more: Any) -> tuple[UUID, RowMapping]:
        """Start a run and drive it to its first stop."""
        run_id = await self.start(turns, **more)
        return run_id, await self.drive(run_id)

    async def answer(
        self, run_id: UUID, action: Action = Action.APPROVE, *, by: str = "ada", token: str | None = None, **more: Any
    ) -> Decided:
        """Answer the run's pending gate."""
        return await self.engine.answer(run_id, Answer(action, by=by, token=token or str(uuid4()), **more))

    async def events(self, run_id: UUID, *types: str) -> list[Json]:
        """Return the run's events, of these types where any are named."""
        return [event for event in await self.engine.events(run_id) if not types or event["type"] in types]

    async def rows(self, table: Any, *where: Any) -> list[RowMapping]:
        """Return rows of a table."""
        async with self.database.transaction() as tx:
            return await tx.all(select(table).where(*where))

    async def report(self, run_id: UUID) -> Json:
        """Return the run's final report."""
        path = (await self.engine.row(run_id))["final_report_path"]
        report: Json = json.loads(Path(path).with_suffix(".json").read_bytes())
        return report


def at_rest(row: RowMapping) -> bool:
    """Whether a run has ended with its report, or waits for a person with its lease handed back."""
    state = RunState(row["state"])
    if state.terminal:
        return row["final_report_path"] is not None and row["lease_worker"] is None
    return state in (RunState.PAUSED, RunState.AWAITING_APPROVAL) and row["lease_worker"] is None


async def poll(look: Callable[[], Awaitable[Any | None]], seconds: float = PATIENCE) -> Any:
    """Return the first value that is not None; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := await look()) is None:
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.05)
    return found


def make_house(folder: Path, database: Database, files: dict[str, str], **settings: Any) -> House:
    """Return an engine over `database` and a repository with these files, besides `answer.py`."""
    repository = make_repository(folder / "repository", {"answer.py": CODE} | files)
    values: Json = {
        "data_dir": folder / "data",
        "database_url": str(database.url),
        "sandbox": "none",
        "heartbeat_seconds": 0.5,
        "sweep_seconds": 1.0,
        "pause_grace_seconds": 1.0,
        "shutdown_drain_seconds": 5.0,
        "retry_initial_delay": 0.001,
        "retry_max_attempts": 3,
    }
    return House(Engine(Settings(**values | settings), database, LocalRemotes()), repository)


def small_house(folder: Path, database: Database, *phases: Json, **more: Any) -> House:
    """Return a house whose repository has workflow `small` with these phases; checks, setup, prices go to its settings.

    `files` are added to the repository, `settings` are the engine's, the rest is the workflow's.
    """
    settings = more.pop("settings", {})
    files = more.pop("files", {})
    ours = ("checks", "setup", "prices", "budget_usd", "required_approvals", "on_conflict", "approvers")
    configured = {key: more.pop(key) for key in ours if key in more}
    texts = {".devflow/workflows/small.yaml": workflow(*phases, **more), ".github/devflow.yml": config(**configured)}
    return make_house(folder, database, texts | files, **settings)


def _dump(value: Json) -> str:
    # by way of JSON, because YAML would write a value that comes twice as an alias
    return str(yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False))
