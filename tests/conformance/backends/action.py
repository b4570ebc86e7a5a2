"""The Action's step as a host: each event of a workflow is a process of its own on a machine of its own.

The events are those that the minimal example is started for, in order of arrival, as its concurrency group has it.
What was done by the job's token starts nothing.
"""

import asyncio
import base64
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from app.local.remotes import LocalRemotes
from engine.facade import Engine
from engine.settings import Settings
from engine.store.database import Database
from tests.action_runner.job import Host
from tests.action_runner.runner import ROOT, ActionRunner
from tests.conformance.backends.app import runs_in
from tests.conformance.backends.base import Decision, Run, World, phases_of, turns_of
from tests.conformance.backends.steps import Ended, Event, Steps, Workflow, state_commit
from tests.conformance.format import Conversation
from tests.github_double import GitHubDouble
from tests.support import cassettes
from tests.support.cassettes import Turn
from tests.support.engines import config, workflow
from tests.support.repositories import git
from tests.support.stage import CODE

BOT = "github-actions[bot]"
EXAMPLE = ROOT / "examples" / "minimal.yml"
CASSETTE = "recorded.yaml"
KEY = "sk-of-the-repositorys-model-server"
VARIABLES = {
    "DEVFLOW_GITHUB_SECONDS_BETWEEN_WRITES": "0",
    "DEVFLOW_HEARTBEAT_SECONDS": "0.5",
    "DEVFLOW_SHUTDOWN_DRAIN_SECONDS": "5",
}


class Action:
    """The step; `database_url` is None where each has a database of its own."""

    def __init__(self, world: World, steps: Steps, database_url: str | None) -> None:
        self.world = world
        self.steps = steps
        self.waiting: list[Event] = []
        self._database_url = database_url
        self._workflow = Workflow(EXAMPLE)
        self._last: Event | None = None
        self._failed = False
        self.ended: Ended | None = None
        world.github.on_workflow_event = lambda name, payload: self.waiting.append(Event(name, payload))

    @property
    def inputs(self) -> dict[str, str]:
        """What a user writes under `with:`."""
        database = {"database-url": _as_written(self._database_url)} if self._database_url else {}
        return {"sandbox": "none", "cassette": CASSETTE, "openai-api-key": KEY, **database}

    @property
    def secrets(self) -> list[str]:
        """What nobody may read anywhere: tokens, as git sends them too, the model server's key, the password."""
        tokens = list(self.world.github.world.tokens)
        sent = [base64.b64encode(f"x-access-token:{token}".encode()).decode() for token in tokens]
        password = make_url(self.inputs["database-url"]).password if self._database_url else None
        return [*tokens, *sent, KEY, *([str(password)] if password else [])]

    def told(self) -> Event:
        """Return the next event that a job is started for, and forget it."""
        while not self._workflow.starts(event := self.waiting.pop(0)):
            continue
        return event

    @property
    def job(self) -> str | None:
        """Return how the jobs of the last step have ended."""
        return "failed" if self._failed else "passed"

    async def settled(self) -> None:
        """Run a job for each event that starts one, one after the other."""
        self._failed = False
        while self.waiting:
            event = self.waiting.pop(0)
            if self._workflow.starts(event):
                self._last = event
                self._failed |= (await self.run(event)).code != 0

    async def again(self) -> None:
        """Have GitHub start a second job for the last event."""
        assert self._last is not None
        self.waiting.append(self._last)

    async def run(self, event: Event, **more: Any) -> Ended:
        """Run one job to its end, at which nothing may have acted that is only words."""
        ended = self.ended = await self._job(event, **more)
        print(f"--- {event.name} of {event.payload.get('action')}:\n{ended.log}")  # shown where the test fails
        assert ended.code in (0, 1), ended.log
        self._assert_sound(ended)
        return ended

    async def _job(self, event: Event, **more: Any) -> Ended:
        return await asyncio.to_thread(self.steps.start(event, inputs=self.inputs, **more).ended)

    async def runs(self) -> list[Run]:
        """Return the issue's runs, oldest first, from wherever they are kept between two steps."""
        if self._database_url is None:
            return await asyncio.to_thread(_kept_runs, self.world)
        database = Database(self._database_url)
        try:
            settings = Settings(data_dir=self.steps.folder, database_url=self._database_url)
            return await runs_in(Engine(settings, database, LocalRemotes()), self.world)
        finally:
            await database.close()

    def _assert_sound(self, ended: Ended) -> None:
        """Assert that nothing of what others wrote has acted, and that no secret can be read."""
        assert "Traceback" not in ended.log, ended.log
        assert ended.acted == [], ended.log
        assert not [one for one in ended.annotations if "forged" in one.message or "forged" in one.file]
        assert set(ended.outputs) <= {"run-id", "state", "pull-number", "cost-usd", "report", "error-code"}
        assert "forged" not in "".join(ended.outputs.values())
        # as the step has printed it: the runner puts stars in their place only in the lines that come after the mask
        printed = [line for line in ended.raw.split("\n") if not line.startswith("::add-mask::")]
        self.assert_hidden("\n".join([*printed, ended.summary, *ended.outputs.values()]))
        assert f"::add-mask::{KEY}" in ended.raw

    def assert_hidden(self, text: str) -> None:
        """Assert that no secret stands in a text."""
        found = [secret for secret in self.secrets if secret in text]
        assert found == [], text


class WholeAction(Action):
    """The same with everything that `action.yml` has a runner do, by bash, the program a process of its own."""

    def __init__(self, world: World, steps: Steps, database_url: str | None) -> None:
        super().__init__(world, steps, database_url)
        self._runner = ActionRunner(steps.folder / "runner", host=steps.host)

    async def _job(self, event: Event, **more: Any) -> Ended:
        run = await self._runner.run(
            event.name, event.payload, inputs=self.inputs, env=self.steps.variables, files=self.steps.files, **more
        )
        acted = [*run.outdated, *run.other]
        told = (run.outputs, run.summary, run.log, run.annotations, run.groups)
        return Ended(run.exit_code, *told, acted, run.raw)


@contextlib.asynccontextmanager
async def action(
    conversation: Conversation,
    folder: Path,
    database_url: str | None,
    *,
    turns: dict[str, list[Turn]] | None = None,
    whole: bool = False,
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[Action]:
    """Yield the step before a repository with the conversation's workflow and configuration.

    `turns` are a recorded agent's in the place of the conversation's, `variables` are more of every job's environment;
    `whole`: everything of the action is run, and not its last step alone.
    """
    given = {
        "answer.py": CODE,
        ".devflow/workflows/small.yaml": workflow(*phases_of(conversation)),
        ".github/devflow.yml": config(**conversation.configuration),
    }
    with GitHubDouble(folder / "github") as github:
        repository = github.repository("octo/answers", given, install=False)
        world = World(github, repository, BOT)
        host = Host(
            repository=repository.full_name,
            repository_id=repository.id,
            token=github.actions_token(repository).text,
            api_url=github.api_url,
            server_url=github.server_url,
        )
        files = {CASSETTE: cassettes.cassette(turns or turns_of(conversation))}
        steps = Steps(host, VARIABLES | dict(variables or {}), files)
        try:
            made = (WholeAction if whole else Action)(world, steps, database_url)
            world.set(conversation)
            await made.settled()
            yield made
            assert not list(steps.folder.rglob("pwned"))
            made.assert_hidden(_pushed(repository.git_dir))
        finally:
            github.on_workflow_event = None
            steps.close()


def _as_written(url: str) -> str:
    """Return the address of a database as a user writes it, with the password in it."""
    given = make_url(url).set(drivername="postgresql")
    passfile = given.query.get("passfile")
    if isinstance(passfile, str):
        password = Path(passfile).read_text().strip().rpartition(":")[2]
        given = given.set(password=password).difference_update_query(["passfile"])
    return given.render_as_string(hide_password=False)


def _pushed(git_dir: Path) -> str:
    """Return all that was ever pushed to a repository: files of branches and of states, and commits."""
    command = ["git", "-C", str(git_dir), "cat-file", "--batch-all-objects", "--unordered", "--batch"]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")


def _kept_runs(world: World) -> list[Run]:
    """Return the runs in the snapshots behind the issue's ref."""
    commit = state_commit(world.repository.git_dir, world.the_issue.number)
    if not commit:
        return []
    names = git(world.repository.git_dir, "ls-tree", "--name-only", commit).splitlines()
    found = []
    for name in names:
        if not name.startswith("run-"):
            continue
        lines = git(world.repository.git_dir, "cat-file", "blob", f"{commit}:{name}").splitlines()
        rows = [(one["table"], one["row"]) for one in map(json.loads, lines[1:-1])]
        (run,) = [row for table, row in rows if table == "runs"]
        decided = [row for table, row in rows if table == "decisions"]
        decisions = tuple(Decision(one["action"], one["by"], one["note"]) for one in decided)
        found.append(Run(run["run_id"], run["number"], run["state"], run["branch"], decisions))
    return sorted(found, key=lambda run: run.number)
