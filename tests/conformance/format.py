"""Conversations as data: who does what on GitHub, and what is to be seen afterwards.

One YAML file a conversation; its name is its id. What a step does not say about what is seen, nobody checks; where a
list is given, it is the whole list. Texts are parts: what is shown has to contain them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

FOLDER = Path(__file__).parent / "conversations"
Place = Literal["issue", "pull"]
Kind = Literal["status", "gate", "stop", "end", "reply"]
Role = Literal["none", "read", "triage", "write", "maintain", "admin"]
State = Literal["created", "executing", "awaiting_approval", "paused", "completed", "failed", "aborted"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Labels(_Model):
    """A label is put on the issue."""

    label: str


class Comments(_Model):
    """A comment is written; `at` says where."""

    comment: str
    at: Place = "issue"


class Edits(_Model):
    """The comment of an earlier step, by that step's name, gets another text."""

    edit: str
    to: str


class Reviews(_Model):
    """The newest run's pull request is reviewed: `lines` are comments on the specification, `of` names a step."""

    review: Literal["approve", "request_changes", "comment"]
    saying: str = ""
    lines: dict[int, str] = {}
    of: str | None = None


class Corrects(_Model):
    """The specification of the newest run is changed by a push to its branch."""

    correct: str
    to: str


class Commits(_Model):
    """Files of the default branch are changed; `configuration` is written to `.github/devflow.yml`."""

    configuration: dict[str, Any]


class Closes(_Model):
    """The issue or the pull request is closed."""

    close: Place


Doing = Labels | Comments | Edits | Reviews | Corrects | Commits | Closes


class Note(_Model):
    """A message on the page of a job; `file` and `line` are empty where it is about no file, `says` is a part of it."""

    kind: Literal["error", "warning", "notice"] = "error"
    says: str
    file: str = ""
    line: str = ""


class Told(_Model):
    """What the last job of a step tells the runner, where there are jobs.

    `outputs` are all of them, in which `{run}`, `{pull}` and `{report}` stand for the newest run's. `summary` are parts
    of the job's summary, `annotations` the whole list, `groups` a part of what stands in a group of the log, by title.
    """

    outputs: dict[str, str]
    summary: list[str] = []
    annotations: list[Note] = []
    groups: dict[str, str] = {}


class Seen(_Model):
    """What people see once everything that follows from a step has happened.

    `runs` are the states of the issue's runs and `pulls` those of all pull requests, oldest first; `reactions` stand on
    what was done in this step; `issue` and `pull` are our comments on the issue and on the newest pull request, by
    kind and part; `check` is the conclusion beside its newest commit; `branch` are parts of files of the newest run.
    `decisions` are those of all runs: `<action> by <who>`, then `: <note>` where there is one. `job` is how the job of
    a workflow ends, and `told` what it tells, where there is one.
    """

    runs: list[State] | None = None
    reactions: list[str] | None = None
    issue: list[dict[Kind, str]] | None = None
    pull: list[dict[Kind, str]] | None = None
    pulls: list[Literal["draft", "ready", "closed", "merged"]] | None = None
    check: str | None = None
    decisions: list[str] | None = None
    branch: dict[str, str] = {}
    job: Literal["passed", "failed"] = "passed"
    told: Told | None = None


class Step(_Model):
    """One thing that somebody does. `name` is for later steps; `again`: GitHub tells of it twice."""

    who: str = "ada"
    does: Doing
    name: str | None = None
    again: bool = False
    seen: Seen | None = None


class Issue(_Model):
    """The issue that all is about; mallory has opened it."""

    title: str = "The answer is wrong"
    body: str = "answer() must return 42."


class Conversation(_Model):
    """One conversation; ada may write, mallory is nobody, `people` are others with their roles.

    `phases` are those of the workflow, each with its gate (null: none); `agent` says which recorded agent works;
    `configuration` stands in `.github/devflow.yml` besides the workflow's name. `locally` means that the command line
    can hold it as well: then its `runs`, `decisions` and `branch` are the same there. `differs` says why what is seen
    at the end is not the same with the App and the Action; None: it is.
    """

    title: str
    issue: Issue = Issue()
    people: dict[str, Role] = {}
    phases: dict[Literal["spec", "change"], str | None] = {"spec": "spec_approval", "change": None}
    agent: Literal["ordinary", "hostile"] = "ordinary"
    configuration: dict[str, Any] = {}
    locally: bool = False
    differs: str | None = None
    steps: Annotated[list[Step], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_held_together(self) -> "Conversation":
        known: set[str] = set()
        for step in self.steps:
            wanted = {Edits: "edit", Reviews: "of"}.get(type(step.does))
            name = getattr(step.does, wanted) if wanted else None
            if name is not None and name not in known:
                raise ValueError(f"no earlier step has the name {name!r}")
            if step.name:
                known.add(step.name)
            if step.who not in {"ada", "mallory", *self.people}:
                raise ValueError(f"nobody said who {step.who} is")
        return self


def read(name: str) -> Conversation:
    """Return the conversation of that name; raises what pydantic says about a mistake in it."""
    return Conversation.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


def names() -> list[str]:
    """Return the names of all conversations, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))
