"""The command line as a host: what people say on GitHub in a conversation, they type here.

A label is `devflow run`, a command in a comment the command of that name, a review `approve` or `revise`; then
`devflow resume` goes on where the engine has something to do. There is nothing to be seen but the runs.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

from tests.conformance.backends.base import Decision, Run, phases_of, turns_of
from tests.conformance.format import Comments, Conversation, Doing, Labels, Reviews, Step
from tests.support import cassettes
from tests.support.engines import config, workflow
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import git, make_repository
from tests.support.stage import CODE

_COMMAND = re.compile(r"/(approve|reject|revise|abort|retry)\b[ ]*(.*)", re.DOTALL)
_GOES_ON = ("approve", "revise")


class CommandLine:
    """One person's terminal at a repository."""

    def __init__(self, cli: ForkedCli, repository: Path, run: list[str]) -> None:
        self._cli = cli
        self._repository = repository
        self._run = run

    async def hold(self, conversation: Conversation) -> None:
        """Hold the conversation; a step after which the runs are others than it says fails with its number."""
        for number, step in enumerate(conversation.steps, 1):
            await asyncio.to_thread(self._type, step)
            if step.seen is not None:
                self._check(step, f"step {number}, {step.who}: {step.does!r}")

    def runs(self) -> list[Run]:
        """Return the runs, oldest first."""
        listed = self._cli.run("runs", "--json", code=0).json["runs"]
        return [self._shown(row["run_id"]) for row in reversed(listed)]

    def code(self) -> list[str | None]:
        """Return the file that is changed, as each run has left it."""
        return [self._read(run, "answer.py") for run in self.runs()]

    def _type(self, step: Step) -> None:
        name, note = _command(step.does)
        if name == "run":
            self._cli.run(*self._run, "--as", step.who)
            return
        newest = self.runs()[-1].run_id
        if name == "retry":
            self._cli.run("retry", newest, "--approve", "never", "--as", step.who)
            return
        self._cli.run(name, newest, "--as", step.who, *(["--note", note] if note else []), code=0)
        if name in _GOES_ON:
            self._cli.run("resume", newest, "--approve", "never", code=0)

    def _check(self, step: Step, where: str) -> None:
        wanted = step.seen
        assert wanted is not None
        runs = self.runs()
        if wanted.runs is not None:
            assert [run.state for run in runs] == wanted.runs, where
        if wanted.decisions is not None:
            assert [str(one) for run in runs for one in run.decisions] == wanted.decisions, where
        for path, part in wanted.branch.items():
            assert part in (self._read(runs[-1], path) or ""), where

    def _shown(self, run_id: str) -> Run:
        shown = self._cli.run("show", run_id, "--json", code=0).json
        decided = [one for gate in shown["approvals"] for one in gate["decisions"]]
        decisions = tuple(Decision(one["action"], one["by"], one["note"]) for one in decided)
        return Run(run_id, shown["number"], shown["state"], shown["branch"], decisions)

    def _read(self, run: Run, path: str) -> str:
        return git(self._repository, "show", f"{run.branch}:{path}") + "\n"


def _command(does: Doing) -> tuple[str, str]:
    """Return the command of the terminal that means the same, and its note."""
    match does:
        case Labels():
            return "run", ""
        case Reviews(review=verdict, saying=text):
            return {"approve": "approve", "request_changes": "revise"}[verdict], text
        case Comments(comment=text) if found := _COMMAND.search(text):
            return found[1], found[2].strip()
    raise AssertionError(f"the command line has no word for {does!r}")


@contextlib.asynccontextmanager
async def command_line(conversation: Conversation, folder: Path, database_url: str) -> AsyncIterator[CommandLine]:
    """Yield the terminal at a repository with the conversation's workflow and configuration."""
    files = {
        "answer.py": CODE,
        ".devflow/workflows/small.yaml": workflow(*phases_of(conversation)),
        ".github/devflow.yml": config(**conversation.configuration),
    }
    repository = make_repository(folder / "repository", files)
    issue = folder / "issue.md"
    issue.write_text(f"# {conversation.issue.title}\n\n{conversation.issue.body}\n")
    recorded = cassettes.write_cassette(folder / "recorded.yaml", turns_of(conversation))
    run = ["run", "--repo", str(repository), "--issue", str(issue), "--workflow", "small", "--approve", "never"]
    cli = ForkedCli(folder, database_url)
    try:
        yield CommandLine(cli, repository, [*run, "--sandbox", "none", "--cassette", str(recorded)])
    finally:
        cli.close()
