"""The whole GitHub App in this process, before a GitHub double: what people do there, and what they get to see.

A test reads as a conversation: somebody acts on the double, `settled` waits until everything that follows from it has
happened, and the issue and the pull request are looked at as a person would.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import RowMapping, exists, func, literal, select, union_all

from app.clock import Clock
from app.hosting import Host
from app.inbound.door import PATH, Door
from app.inbound.mailbox import Mailbox, database_store
from app.server import create_app
from app.settings import AppSettings
from engine.domain.states import RunState
from engine.settings import Settings
from engine.store.database import Database
from engine.store.host_tables import deliveries, projections
from engine.store.tables import runs
from tests.github_double import Comment, GitHubDouble, Issue, Pull, Repository, User
from tests.support import cassettes
from tests.support.cassettes import Turn, call, cassette, submit
from tests.support.engines import config, phase, workflow

CODE = "def answer():\n    return 41\n"
EDIT = call("write_file", path="answer.py", content="def answer():\n    return 42\n")
SECOND_SPEC = {**cassettes.SPEC, "approach": "Change the constant and say so."}
TURNS: dict[str, list[Turn]] = {
    "spec/1/1": [submit(cassettes.SPEC)],
    "spec/2/1": [submit(SECOND_SPEC)],
    "spec/3/1": [submit(cassettes.SPEC)],
    "change/1/1": [[EDIT, *submit(cassettes.CHANGE)]],
    "change/2/1": [[EDIT, *submit(cassettes.CHANGE)]],
}
PHASES = (
    phase("spec", "thinker", "dev/spec@1", gates=["spec_approval"]),
    phase("change"),
)
PATIENCE = 240.0

_earlier = runs.alias("earlier")
_IS_NEXT = ~exists().where(  # of the runs that wait for an earlier one of their issue, none is about to begin
    _earlier.c.repository_id == runs.c.repository_id,
    _earlier.c.issue_number == runs.c.issue_number,
    _earlier.c.number < runs.c.number,
    _earlier.c.state.not_in([RunState.COMPLETED, RunState.FAILED, RunState.ABORTED]),
)
_JUST_MADE = runs.c.created_at > func.clock_timestamp() - timedelta(seconds=10)  # later, it waits for a place

# What still goes on: deliveries to handle, runs at work, about to begin or not yet summed up, and what is to be shown.
_UNREST = union_all(
    select(literal(1)).select_from(deliveries).where(deliveries.c.state == "received"),
    select(literal(1))
    .select_from(runs)
    .where(
        runs.c.lease_worker.is_not(None)
        | (runs.c.state == RunState.EXECUTING)
        | ((runs.c.state == RunState.CREATED) & _JUST_MADE & _IS_NEXT)
        | (
            runs.c.state.in_([RunState.COMPLETED, RunState.FAILED, RunState.ABORTED])
            & runs.c.final_report_path.is_(None)
        )
    ),
    select(literal(1))
    .select_from(projections)
    .where((projections.c.dirty & projections.c.not_before.is_(None)) | projections.c.claimed_by.is_not(None)),
).limit(1)


@dataclass
class Stage:
    """One GitHub with one repository, and the App that serves it."""

    github: GitHubDouble
    repository: Repository
    host: Host
    ada: User
    outsider: User
    bot: str
    files: dict[str, str]

    @property
    def database(self) -> Database:
        """The App's database."""
        return self.host.database

    def issue(self, title: str = "The answer is wrong", body: str = "answer() must return 42.") -> Issue:
        """An issue that an outsider opens."""
        return self.repository.open_issue(self.outsider, title, body)

    def elsewhere(self, full_name: str) -> "Stage":
        """The same stage with another repository of the same contents, which this one does not see."""
        repository = self.github.repository(full_name, self.files)
        repository.permit(self.ada, "write")
        return replace(self, repository=repository)

    async def labelled(self, label: str = "devflow", by: User | None = None) -> tuple[Issue, RowMapping]:
        """An issue whose label has started a run, which waits at its first gate."""
        issue = self.issue()
        issue.label(by or self.ada, label)
        await self.settled()
        return issue, await self.run(issue)

    async def run(self, issue: Issue, number: int | None = None) -> RowMapping:
        """The issue's newest run, or the one with this number."""
        rows = await self.runs(issue)
        return rows[-1] if number is None else next(row for row in rows if row["number"] == number)

    async def runs(self, issue: Issue) -> list[RowMapping]:
        """The issue's runs, oldest first."""
        async with self.database.read() as tx:
            mine = (runs.c.repository_id == issue.repository.id) & (runs.c.issue_number == issue.number)
            return await tx.all(select(runs).where(mine).order_by(runs.c.number))

    async def state(self, issue: Issue) -> RunState:
        """The state of the issue's newest run."""
        return RunState((await self.run(issue))["state"])

    async def pull(self, issue: Issue) -> Pull:
        """The pull request of the issue's newest run."""
        branch = (await self.run(issue))["branch"]
        (found,) = [pull for pull in self.repository.pulls if pull.head_ref == branch]
        return found

    def replies(self, issue: Issue) -> list[str]:
        """What the App answered to people on an issue or pull request."""
        return [comment.body for comment in self.ours(issue) if "<!-- devflow:reply/" in comment.body]

    def ours(self, issue: Issue) -> list[Comment]:
        """The App's comments."""
        return [comment for comment in issue.comments if comment.author.login == self.bot]

    def emoji(self, thing: Any) -> list[str]:
        """What the App put on an issue, a comment or a review, in order."""
        return [reaction.content for reaction in thing.reactions if reaction.user.login == self.bot]

    async def outcomes(self) -> list[tuple[str, str, str]]:
        """What became of each delivery, oldest first: event, state, outcome."""
        async with self.database.read() as tx:
            rows = await tx.all(select(deliveries).order_by(deliveries.c.received_at))
        return [(row["event"], row["state"], row["outcome"]) for row in rows]

    async def settled(self, seconds: float = PATIENCE) -> None:
        """Wait until every delivery is handled, every run rests or waits, and all of it is shown."""
        async with asyncio.timeout(seconds):
            calm = 0
            while calm < 3:
                await asyncio.to_thread(self.github.wait_deliveries, seconds)
                calm = calm + 1 if await self._is_calm() else 0
                await asyncio.sleep(0.05)

    async def heard(self, seconds: float = PATIENCE) -> None:
        """Wait until every delivery so far is handled, while runs may be at work."""
        waiting = select(deliveries.c.delivery_id).where(deliveries.c.state == "received").limit(1)
        async with asyncio.timeout(seconds):
            while True:
                await asyncio.to_thread(self.github.wait_deliveries, seconds)
                async with self.database.read() as tx:
                    if await tx.maybe(waiting) is None:
                        return
                await asyncio.sleep(0.03)

    async def until(self, reached: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until something shows on GitHub."""
        async with asyncio.timeout(seconds):
            while not reached():
                await asyncio.sleep(0.02)

    async def _is_calm(self) -> bool:
        async with self.database.read() as tx:
            return (await tx.execute(_UNREST)).first() is None


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    database_url: str,
    *,
    turns: dict[str, list[Turn]] | None = None,
    phases: tuple[Any, ...] = PHASES,
    files: dict[str, str] | None = None,
    clock: Clock | None = None,
    settings: dict[str, Any] | None = None,
    **configuration: Any,
) -> AsyncIterator[Stage]:
    """Open the curtain: a repository with workflow `small`, people, and the App at work behind its door."""
    given = {
        "answer.py": CODE,
        ".devflow/workflows/small.yaml": workflow(*phases),
        ".github/devflow.yml": config(**configuration),
        **(files or {}),
    }
    now = {"clock": clock.now} if clock is not None else {}
    with GitHubDouble(folder / "github", **now) as github:
        repository = github.repository("octo/answers", given)
        ada, outsider = github.person("ada"), github.person("mallory")
        repository.permit(ada, "write")
        app_settings = AppSettings(
            app_id=github.app.id,
            private_key=github.app.private_key_pem,
            webhook_secrets=(github.app.webhook_secret,),
            api_url=github.api_url,
            server_url=github.server_url,
            seconds_between_writes=0,
            cassette=("recorded.yaml", cassette(turns or TURNS)),
        )
        async with Host.open(_settings(folder, database_url, settings or {}), app_settings, clock) as host:
            stop = asyncio.Event()
            working = asyncio.create_task(host.run(stop))
            try:
                async with _door(host, app_settings) as url:
                    github.webhook_url = url
                    yield Stage(github, repository, host, ada, outsider, await host.app.bot_login(), given)
                    github.webhook_url = None
            finally:
                stop.set()
                await working


def _settings(folder: Path, database_url: str, more: dict[str, Any]) -> Settings:
    values: dict[str, Any] = {
        "data_dir": folder / "data",
        "database_url": database_url,
        "sandbox": "none",
        "heartbeat_seconds": 0.5,
        "sweep_seconds": 1.0,
        "pause_grace_seconds": 1.0,
        "shutdown_drain_seconds": 5.0,
    }
    return Settings(**values | more)


@contextlib.asynccontextmanager
async def _door(host: Host, settings: AppSettings) -> AsyncIterator[str]:
    mailbox = Mailbox(database_store(host.database))
    application = create_app(host.database, Door(settings.webhook_secrets, mailbox))
    listener = socket.create_server(("127.0.0.1", 0))
    options = {"lifespan": "off", "ws": "none", "access_log": False, "log_config": None}
    server = uvicorn.Server(uvicorn.Config(application, **options))  # type: ignore[arg-type]
    serving = asyncio.create_task(server._serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
    finally:
        server.should_exit = True
        await serving
        await mailbox.close()
