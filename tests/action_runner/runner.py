"""Runs a composite action for one event: `ActionRunner.run` to its end, `start` to meddle with it while it runs.

Every run has its own folders, as every job of GitHub's has its own machine. Masks hold for all later steps of a job.
"""

import asyncio
import hashlib
import itertools
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.action_runner import cache, processes
from tests.action_runner.expressions import condition, interpolate
from tests.action_runner.files import read_values
from tests.action_runner.job import FILES, Host, Job
from tests.action_runner.log import Annotation, Command, LogReader

ROOT = Path(__file__).parents[2]
_INTERRUPT_SECONDS = 7.5
_TERMINATE_SECONDS = 2.5
_LINE_LIMIT = 1 << 20


class ActionError(ValueError):
    """The action asks for something that this runner does not do."""


@dataclass
class StepRun:
    """What came of one use of the action; everything that people could read is masked already, `raw` is not."""

    exit_code: int = 0
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""
    annotations: list[Annotation] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    outdated: list[Command] = field(default_factory=list)
    other: list[Command] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    folder: Path = Path()
    raw: str = ""


class ActionRunner:
    """One repository's jobs; `venv` says whether the cache has the environment ("hit") or not ("miss")."""

    def __init__(
        self,
        folder: Path,
        *,
        host: Host | None = None,
        action: Path = ROOT,
        venv: str = "hit",
        environment: str = "self-hosted",
    ) -> None:
        self.folder = folder
        self.host = host or Host()
        self.action = action
        self.venv = venv
        self.environment = environment
        self._numbers = itertools.count(1)

    async def run(self, event_name: str, payload: Mapping[str, Any], **more: Any) -> StepRun:
        """Run the action for one event; `more` as for `start`."""
        return await self.start(event_name, payload, **more).finished()

    def start(
        self,
        event_name: str,
        payload: Mapping[str, Any],
        *,
        inputs: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes | str] | None = None,
        actor: str = "ada",
        run_id: int | None = None,
        attempt: int = 1,
        token: str | None = None,
    ) -> "RunningStep":
        """Begin to run the action; `files` stand in the workspace as a checkout leaves them, `env` is the job's.

        Needs a running event loop. Raises `ActionError` for an input that the action does not have.
        """
        number = next(self._numbers)
        host = self.host if token is None else Host(**{**self.host.__dict__, "token": token})
        job = Job(
            folder=self.folder / f"job-{number}",
            action=self.action,
            host=host,
            event_name=event_name,
            payload=payload,
            actor=actor,
            run_id=run_id or 8_000_000_000 + number,
            attempt=attempt,
            environment=self.environment,
            extra=env or {},
        )
        job.prepare(files or {})
        running = RunningStep(job, inputs or {}, self.venv)
        running.task = asyncio.create_task(running.all_steps())
        return running


class RunningStep:
    """The action while it runs."""

    def __init__(self, job: Job, inputs: Mapping[str, str], venv: str) -> None:
        self.job = job
        self.task: asyncio.Task[StepRun] | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.current = ""
        self._venv = venv
        self._definition = yaml.safe_load((job.action / "action.yml").read_text())
        self._result = StepRun(folder=job.folder, masks=[job.host.token])
        self._outputs: dict[str, dict[str, Any]] = {}
        self._added: dict[str, str] = {}
        self._path: list[str] = []
        self._log: list[str] = []
        self._failed = self._cancelled = False
        self._functions = {
            "success": lambda: not self._failed and not self._cancelled,
            "failure": lambda: self._failed,
            "cancelled": lambda: self._cancelled,
            "always": lambda: True,
            "hashFiles": self._hash_files,
        }
        self._contexts: dict[str, Any] = {"github": job.github(), "runner": job.runner(), "steps": self._outputs}
        self._contexts["inputs"] = self._inputs(inputs)

    @property
    def log(self) -> str:
        """Return what has been printed so far, as people see it."""
        return "\n".join(self._log)

    async def finished(self) -> StepRun:
        """Wait for the end of the action."""
        if self.task is None:
            raise AssertionError("it was never started")
        return await self.task

    async def until(self, text: str, seconds: float = 240) -> None:
        """Wait until a text stands in the log; fails where the action ends before."""
        async with asyncio.timeout(seconds):
            while text not in self.log:
                if self.task is not None and self.task.done():
                    raise AssertionError(f"the action ended without {text!r}:\n{self.log}")
                await asyncio.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that the runner started, and to no other."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def cancel(self, *, patience: float = 1.0) -> StepRun:
        """Cancel the job as GitHub does: SIGINT, SIGTERM after 7.5 s, SIGKILL to all after 2.5 s more.

        `patience` makes these times shorter or longer.
        """
        self._cancelled = True
        for number, seconds in ((signal.SIGINT, _INTERRUPT_SECONDS), (signal.SIGTERM, _TERMINATE_SECONDS)):
            self.send(number)
            if self.task is not None and (await asyncio.wait({self.task}, timeout=seconds * patience))[0]:
                break
        return await self.vanish()

    async def vanish(self) -> StepRun:
        """Take the machine away: everything that the job has started is killed at once."""
        self._cancelled = True
        found = [] if self.process is None else processes.tree(self.process.pid)
        processes.kill([*found, *processes.belonging(self.job.folder, self.job.tracking)])
        return await self.finished()

    async def all_steps(self) -> StepRun:
        """Run the steps of the action, one after the other, and gather what came of them."""
        result = self._result
        for number, step in enumerate(self._definition["runs"]["steps"]):
            self.current = step.get("id", f"step-{number}")
            if not condition(step.get("if"), self._contexts, self._functions):
                continue
            result.ran.append(self.current)
            begun = time.monotonic()
            if "uses" in step:
                values = self._use(step)
            elif step.get("shell") == "bash":
                values = await self._run(step)
            else:
                raise ActionError(f"a step of this kind is not known: {step}")
            result.seconds[self.current] = time.monotonic() - begun
            self._outputs[self.current] = {"outputs": values}
        for name, spec in self._definition.get("outputs", {}).items():
            result.outputs[name] = interpolate(spec["value"], {"steps": self._outputs}, self._functions)
        result.log = self.log
        return result

    async def _run(self, step: Mapping[str, Any]) -> dict[str, str]:
        folder = self.job.temp / f"_runner-{self.current}"
        folder.mkdir()
        for name in FILES:
            (folder / name).touch()
        script = folder / "script.sh"
        script.write_text(interpolate(step["run"], self._contexts, self._functions))
        given = {name: interpolate(str(text), self._contexts, self._functions) for name, text in step["env"].items()}
        variables = self.job.variables(self._added, self._path) | {name: str(folder / name) for name in FILES} | given
        self.process = await asyncio.create_subprocess_exec(
            *("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)),
            env=variables,
            cwd=self.job.workspace,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
        await self._read(self.process)
        code = await self.process.wait()
        if code != 0:
            self._failed = True
            self._result.exit_code = code if code > 0 else 128 - code
        self._added |= read_values((folder / "GITHUB_ENV").read_text())
        self._path = [*(folder / "GITHUB_PATH").read_text().split(), *self._path]
        self._result.summary += self._masked((folder / "GITHUB_STEP_SUMMARY").read_text())
        return read_values((folder / "GITHUB_OUTPUT").read_text())

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        result = self._result
        reader = LogReader(
            masks=result.masks,
            annotations=result.annotations,
            groups=result.groups,
            ignored=result.ignored,
            outdated=result.outdated,
            other=result.other,
        )
        if process.stdout is None:
            raise AssertionError("standard output is a pipe")
        before = len(self._log)
        async for line in process.stdout:
            text = line.decode(errors="replace")
            result.raw += text
            reader.read(text.removesuffix("\n"))
            self._log[before:] = reader.text.split("\n") if reader.text else []

    def _use(self, step: Mapping[str, Any]) -> dict[str, str]:
        name = str(step["uses"]).partition("@")[0]
        given = {key: interpolate(str(text), self._contexts, self._functions) for key, text in step["with"].items()}
        if name == cache.RESTORE:
            hit = self._venv == "hit"
            if hit:
                cache.restore(Path(given["path"]))
            return {"cache-hit": "true" if hit else "", "cache-primary-key": given["key"]}
        if name == cache.SAVE:
            if not Path(given["path"]).is_dir():
                raise ActionError(f"there is nothing to save at {given['path']}")
            self._result.saved.append(given["key"])
            return {}
        raise ActionError(f"this runner does not know the action {name}")

    def _inputs(self, given: Mapping[str, str]) -> dict[str, str]:
        specs = self._definition["inputs"]
        if unknown := set(given) - set(specs):
            raise ActionError(f"the action has no input {', '.join(sorted(unknown))}")
        defaults = {name: interpolate(spec.get("default", ""), self._contexts, {}) for name, spec in specs.items()}
        return defaults | dict(given)

    def _masked(self, text: str) -> str:
        return LogReader(masks=self._result.masks).masked(text)

    def _hash_files(self, *patterns: str) -> str:
        found = sorted({file for pattern in patterns for file in self.job.workspace.glob(pattern) if file.is_file()})
        each = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in found)
        return hashlib.sha256(each).hexdigest() if found else ""
