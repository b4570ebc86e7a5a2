"""Jobs that a workflow's events start: which events do, and the action's last step for each, as a process of its own.

`Steps` runs what `action.yml` says is run last, with the environment that it and GitHub give it, in a process forked
from one that has the imports done; everything else of a job is as on a runner: folders, files, a database of its own.
Whole jobs, with bash and all, are the business of `tests.action_runner`.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.action_runner.expressions import condition, interpolate
from tests.action_runner.files import read_values
from tests.action_runner.job import FILES, SERVICES, Host, Job
from tests.action_runner.log import Annotation, Command, LogReader
from tests.action_runner.processes import belonging, kill
from tests.action_runner.runner import ROOT
from tests.support.forked_cli import ForkedCli, Process
from tests.support.repositories import git

Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """What GitHub would start a workflow for."""

    name: str
    payload: Json


class Workflow:
    """A workflow file of a user: which events start its job."""

    def __init__(self, path: Path) -> None:
        given = yaml.safe_load(path.read_text())
        self._on: Json = given[True]  # YAML's `on`
        self._if: str | None = given["jobs"]["devflow"].get("if")

    def starts(self, event: Event) -> bool:
        """Tell whether an event starts the job."""
        if event.name not in self._on:
            return False
        wanted = self._on[event.name]
        if isinstance(wanted, dict) and event.payload.get("action") not in wanted["types"]:
            return False
        github = {
            "event_name": event.name,
            "event": {"comment": {"body": None}, "label": {"name": None}} | event.payload,
        }
        functions: dict[str, Callable[..., Any]] = {
            "success": lambda: True,
            "contains": lambda text, part: part.lower() in (text or "").lower(),
            "startsWith": lambda text, part: (text or "").lower().startswith(part.lower()),
        }
        return condition(self._if, {"github": github}, functions)


@dataclass
class Ended:
    """What came of a job; `log` is what people see of it, `acted` what lines of it did that none of ours may do.

    `raw` is what the step has printed, before the runner has read it and put stars in the place of secrets.
    """

    code: int
    outputs: dict[str, str]
    summary: str
    log: str
    annotations: list[Annotation]
    groups: list[str]
    acted: list[Command]
    raw: str


class Started:
    """A job whose step is at work."""

    def __init__(self, job: Job, process: Process, files: Path) -> None:
        self.job = job
        self.process = process
        self._files = files

    def ended(self, seconds: float = 240) -> Ended:
        """Wait for its end."""
        answer = self.process.wait(seconds)
        kill(belonging(self.job.folder, self.job.tracking))
        log = LogReader(masks=[self.job.host.token])
        log.read(answer.out)
        outputs = read_values((self._files / "GITHUB_OUTPUT").read_text())
        summary = (self._files / "GITHUB_STEP_SUMMARY").read_text()
        acted = [*log.outdated, *log.other]
        ended = Ended(answer.code, outputs, summary, log.text, log.annotations, log.groups, acted, answer.out)
        # a machine is thrown away with all that a database has left there
        shutil.rmtree(self.job.temp / "devflow", ignore_errors=True)
        return ended


class _Machine(ForkedCli):
    """Gives a process the environment that it is to have, and nothing else."""

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what was given."""
        return dict(extra or {})


class Steps:
    """The jobs of one repository; use `close` at the end."""

    def __init__(self, host: Host, variables: Mapping[str, str], files: Mapping[str, bytes | str]) -> None:
        # as root, a test's own folder is closed to the user that Postgres runs as
        self.folder = Path(tempfile.mkdtemp(prefix="devflow-jobs-"))
        self.folder.chmod(0o711)
        self.host = host
        self.variables = variables
        self.files = files
        self._cli = _Machine(self.folder)
        self._count = 0
        self._definition = yaml.safe_load((ROOT / "action.yml").read_text())

    def close(self) -> None:
        """End what still runs and remove all folders."""
        self._cli.close()
        kill(belonging(self.folder, "no mark"))
        shutil.rmtree(self.folder)

    def start(
        self,
        event: Event,
        *,
        inputs: Mapping[str, str] | None = None,
        run_id: int | None = None,
        attempt: int = 1,
        actor: str = "ada",
        **variables: str,
    ) -> Started:
        """Start a job for an event, in fresh folders; `variables` are more of its environment."""
        self._count += 1
        job = Job(
            folder=self.folder / f"job-{self._count}",
            action=ROOT,
            host=self.host,
            event_name=event.name,
            payload=event.payload,
            actor=actor,
            run_id=run_id or 8_000_000_000 + self._count,
            attempt=attempt,
            environment="self-hosted",
            extra={**self.variables, **variables},
        )
        job.prepare(self.files)
        job.folder.chmod(0o711)
        answers = job.temp / "_answers"
        answers.mkdir()
        for name in FILES:
            (answers / name).touch()
        environment = job.variables({}, []) | {name: str(answers / name) for name in FILES} | self._given(job, inputs)
        environment = {name: text for name, text in environment.items() if name not in SERVICES}
        process = self._cli.start("action", env=environment, cwd=job.workspace, together=True)
        return Started(job, process, answers)

    def _given(self, job: Job, inputs: Mapping[str, str] | None) -> dict[str, str]:
        """Return the environment that `action.yml` gives to its last step."""
        contexts: Json = {"github": job.github(), "runner": job.runner(), "steps": {}}
        specs = self._definition["inputs"]
        defaults = {name: interpolate(spec.get("default", ""), contexts, {}) for name, spec in specs.items()}
        contexts["inputs"] = defaults | dict(inputs or {})
        step = self._definition["runs"]["steps"][-1]
        return {name: interpolate(str(text), contexts, {}) for name, text in step["env"].items()}


def state_commit(git_dir: Path, issue_number: int) -> str:
    """Return the commit behind an issue's state, empty where there is none."""
    return git(git_dir, "for-each-ref", "--format=%(objectname)", f"refs/devflow/state/{issue_number}").strip()
