"""A GitHub double, and `devflow serve` before it as a process that may be killed and started again.

The port is the scenario's own, whichever process listens there, so that GitHub knows one address. What GitHub sends is
held back until a test lets it go: what people do, and in the end what the App itself has brought about.
"""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, select

from app.inbound.door import PATH
from engine.domain.states import RunState
from engine.store.database import Database
from engine.store.host_tables import deliveries, projections
from engine.store.tables import runs
from tests.github_double import Comment, Delivery, GitHubDouble, Issue, Pull, Repository, Request, User
from tests.github_double.environment import environment
from tests.support import cassettes
from tests.support.cassettes import Turn
from tests.support.engines import config, phase, workflow
from tests.support.forked_cli import ForkedCli, Process
from tests.support.stage import CODE, TURNS

PATIENCE = 240.0
PHASES = (
    phase("spec", "thinker", "dev/spec@1", gates=["spec_approval"]),
    phase("change", gates=["change_approval"]),
)


@dataclass
class Served:
    """One GitHub with one repository, and a command line that starts servers before it."""

    github: GitHubDouble
    repository: Repository
    cli: ForkedCli
    database: Database
    ada: User
    bob: User
    outsider: User
    port: int
    sent: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where the server listens, when there is one."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self, *arguments: str, **variables: str) -> Process:
        """Start a server, which may not live long."""
        return self.cli.start("serve", "--port", str(self.port), *arguments, env=variables)

    def work(self, *arguments: str, **variables: str) -> Process:
        """Start a worker."""
        return self.cli.start("worker", *arguments, env=variables)

    @contextlib.contextmanager
    def serving(self, *arguments: str, **variables: str) -> Iterator[Process]:
        """Have a server listen until the block ends, and see it end well."""
        process = self.serve(*arguments, **variables)
        process.wait_for("Listening on")
        yield process
        self.end(process)

    def end(self, *processes: Process) -> None:
        """Stop processes as an operator does."""
        for process in processes:
            process.signal(signal.SIGTERM)
        for process in processes:
            answer = process.wait()
            assert (answer.code, "Traceback" in answer.err) == (0, False), answer.err

    def issue(self) -> Issue:
        """An issue that an outsider opens."""
        return self.repository.open_issue(self.outsider, "The answer is wrong", "answer() must return 42.")

    def deliver(self, *, ours: bool = False) -> list[Delivery]:
        """Let go what GitHub holds back of what people did; `ours`: of everything."""
        bot = self.github.app.bot.login
        chosen = [each for each in self.github.held if ours or each.payload.get("sender", {}).get("login") != bot]
        self.sent |= {each.guid for each in chosen}
        self.github.release(chosen)
        self.github.hold()
        return chosen

    def redeliver(self) -> None:
        """Let go what the App has asked GitHub to deliver again."""
        if again := [each for each in self.github.held if each.redelivery]:
            self.github.release(again)
            self.github.hold()

    async def settled(self, alive: Callable[[], bool] = lambda: True, seconds: float = PATIENCE) -> bool:
        """Wait until all is handled, at rest and shown; False as soon as nobody is `alive` who could do it."""
        deadline = time.monotonic() + seconds
        calm = 0
        while calm < 3:
            if not alive():
                return False
            assert time.monotonic() < deadline, await self.unrest()
            self.redeliver()
            await asyncio.to_thread(self.github.wait_deliveries)
            calm = calm + 1 if not await self.unrest() else 0
            await asyncio.sleep(0.02)
        return True

    async def unrest(self) -> list[str]:
        """Return what is still to be done, in a few words each."""
        stored = {row["delivery_id"]: row for row in await self.deliveries()}
        async with self.database.read() as tx:
            shown = await tx.all(select(projections))
        found = [f"delivery {guid} has not arrived" for guid in self.sent - set(stored)]
        found += [f"{_told(row)} is not handled" for row in stored.values() if row["state"] == "received"]
        found += [f"{_told(row)} goes on" for row in await self.runs() if _goes_on(row)]
        found += [f"{_told(row)} is to be shown" for row in shown if row["dirty"] or row["claimed_by"]]
        return found

    async def until(self, reached: Callable[[RowMapping], object], seconds: float = PATIENCE) -> RowMapping:
        """Wait until the newest run's row is as wanted."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.runs()
                if found and reached(found[-1]):
                    return found[-1]
                await asyncio.sleep(0.02)

    async def runs(self) -> list[RowMapping]:
        """All runs, oldest first."""
        async with self.database.read() as tx:
            return await tx.all(select(runs).order_by(runs.c.number))

    async def deliveries(self) -> list[RowMapping]:
        """All deliveries that are stored, oldest first."""
        async with self.database.read() as tx:
            return await tx.all(select(deliveries).order_by(deliveries.c.received_at))

    @property
    def writes(self) -> list[Request]:
        """Every call so far by which the App wanted to change something that people see."""
        return [one for one in list(self.github.requests) if is_write(one)]

    def pull(self) -> Pull:
        """The one pull request."""
        (pull,) = self.repository.pulls
        return pull

    def ours(self, part: str = "") -> list[Comment]:
        """The App's comments whose marker has this part, wherever they stand."""
        every = [comment for place in self.repository.numbered.values() for comment in place.comments]
        return [one for one in every if one.author is self.github.app.bot and part in one.body.partition("\n")[0]]


def _goes_on(run: RowMapping) -> bool:
    if RunState(run["state"]).terminal:
        return run["final_report_path"] is None
    # one who was killed at a gate holds the run for ever, and that is no harm
    return run["state"] in (RunState.CREATED, RunState.EXECUTING) or run["requested_action"] is not None


def _told(row: RowMapping) -> str:
    names = ("delivery_id", "event", "number", "state", "epoch", "lease_worker", "attempts", "claimed_by", "not_before")
    return ", ".join(f"{name} {row[name]}" for name in names if row.get(name) is not None)


def is_write(request: Request) -> bool:
    """Tell whether a request changes something that people see; a token is nothing, a delivery asked for neither."""
    if request.method in ("GET", "HEAD") or request.token_kind == "pat":
        return False
    return not any(part in request.path for part in ("access_tokens", "/git-", "/app/hook/"))


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    database: Database,
    database_url: str,
    *,
    turns: dict[str, list[Turn]] | None = None,
    phases: tuple[Any, ...] = PHASES,
    **configuration: Any,
) -> AsyncIterator[Served]:
    """Yield a repository with workflow `small`, people, and a command line; GitHub holds back what it would send."""
    files = {
        "answer.py": CODE,
        ".devflow/workflows/small.yaml": workflow(*phases),
        ".github/devflow.yml": config(**configuration),
    }
    cassette = cassettes.write_cassette(folder / "recorded.yaml", turns or TURNS)
    with GitHubDouble(folder / "github") as github, reserved_port() as port:
        repository = github.repository("octo/answers", files)
        ada, bob, outsider = (github.person(login) for login in ("ada", "bob", "mallory"))
        repository.permit(ada, "write")
        repository.permit(bob, "maintain")
        variables = environment(github) | {
            "DEVFLOW_CASSETTE": str(cassette),
            "DEVFLOW_SANDBOX": "none",
            "DEVFLOW_GITHUB_SECONDS_BETWEEN_WRITES": "0",
            "DEVFLOW_HEARTBEAT_SECONDS": "0.5",
            "DEVFLOW_SHUTDOWN_DRAIN_SECONDS": "5",
        }
        cli = ForkedCli(folder, database_url, variables)
        github.webhook_url = f"http://127.0.0.1:{port}{PATH}"
        github.hold()
        try:
            yield Served(github, repository, cli, database, ada, bob, outsider, port)
        finally:
            cli.close()
            github.webhook_url = None


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port that nobody else is given, though nobody listens there until a server does."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
