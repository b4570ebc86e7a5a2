"""What the measurements share: a figure, a stopwatch, an engine on a database of its own, sample repositories."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

from app.local.remotes import LocalRemotes
from engine.facade import Engine
from engine.settings import Settings
from engine.start import StartRequest

_GIT = ("git", "-c", "user.name=Bench", "-c", "user.email=bench@example.invalid", "-c", "commit.gpgsign=false")
SPEC = {"requirements": ["r"], "acceptance_criteria": ["a"], "approach": "p", "risks": []}


@dataclass(frozen=True)
class Figure:
    """One measured thing; times are medians in seconds, `bare` is what they are compared with.

    A goal is the longest time in seconds (`at_most`), or how many times the bare one (`at_most_bare`).
    """

    what: str
    seconds: float
    samples: int
    bare: float | None = None
    per_second: bool = False
    at_most: float | None = None
    at_most_bare: float | None = None

    @property
    def shown(self) -> str:
        """The time for people, or how many times a second."""
        return self._show(self.seconds)

    @property
    def shown_bare(self) -> str:
        """What it is compared with."""
        return "" if self.bare is None else self._show(self.bare)

    @property
    def ratio(self) -> str:
        """How many times the bare time."""
        return "" if not self.bare else f"{self.seconds / self.bare:.2f}"

    @property
    def goal(self) -> str:
        """The goal, and whether it was met; empty where there is none."""
        if self.at_most is not None:
            return f"under {_show(self.at_most)}: {_verdict(self.seconds < self.at_most)}"
        if self.at_most_bare is not None and self.bare:
            return f"ratio up to {self.at_most_bare:g}: {_verdict(self.seconds <= self.at_most_bare * self.bare)}"
        return ""

    def _show(self, seconds: float) -> str:
        return f"{1 / seconds:.0f}/s" if self.per_second else _show(seconds)


def _show(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


Step = Callable[[], Awaitable[Any]]


async def median(step: Step, times: int) -> float:
    """Return the median time of a step in seconds, after one that does not count."""
    return (await medians([step], times))[0]


async def medians(steps: Sequence[Step], times: int) -> list[float]:
    """Return the median times of steps that are run by turns, so that whatever else the machine does hits all alike."""
    taken: list[list[float]] = [[] for _ in steps]
    for number in range(times + 1):
        for step, times_of_step in zip(steps, taken, strict=True):
            began = time.perf_counter()
            await step()
            if number > 0:  # the first time does not count
                times_of_step.append(time.perf_counter() - began)
    return [statistics.median(one) for one in taken]


async def beside(what: str, step: Step, bare: Step, times: int) -> Figure:
    """Measure a step beside the bare thing."""
    ours, theirs = await medians([step, bare], times)
    return Figure(what, ours, times, theirs)


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Engine]:
    """Open an engine whose data, database included, lies in `folder`."""
    async with Engine.open(Settings(data_dir=folder / "data"), LocalRemotes()) as opened:
        yield opened


def run_git(folder: Path, *arguments: str) -> str:
    """Run the machine's git there."""
    command = [*_GIT, "-C", str(folder), *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def make_repository(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Make a repository with one commit on `main` that has these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    run_git(folder, "init", "--quiet", "--initial-branch=main")
    run_git(folder, "add", "--all")
    run_git(folder, "commit", "--quiet", "--message=Begin")
    return folder


def workflow_repository(folder: Path, phases: int) -> Path:
    """Make a repository whose workflow `bench` has so many document phases, without gates and checks."""
    steps = [
        {
            "key": f"p{number}",
            "title": f"Phase {number}",
            "role": "analyst",
            "instructions": "Write it.",
            "expected_artifact": {"path": f"out/p{number}.json", "schema": "dev/spec@1"},
            "gates": [],
        }
        for number in range(phases)
    ]
    roles = [{"id": "analyst", "required_capabilities": ["spec_write"]}]
    text = yaml.safe_dump({"name": "bench", "version": 1, "roles": roles, "phases": steps})
    return make_repository(folder, {".devflow/workflows/bench.yaml": text.encode(), "README.md": b"# Bench\n"})


async def start_run(opened: Engine, repository: Path, phases: int) -> UUID:
    """Start a run of the workflow `bench` whose recorded agent submits at once."""
    turn = [{"tool": "submit_artifact", "arguments": {"artifact": SPEC}}]
    cassette = json.dumps({"version": 1, "turns": {f"p{number}/1/1": [turn] for number in range(phases)}})
    request = StartRequest(
        repository=repository,
        issue_text="# Measure\n",
        by="bench@example.invalid",
        workflow="bench",
        cassette=("cassette.yaml", cassette.encode()),
        private_queue=True,
    )
    return await opened.start(request)
