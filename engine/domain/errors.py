"""Every error that people can meet: its code, its kind, what it does to a run and what to do next.

The table is the only place where codes are defined; the command line, the API and the report read it.
"""

import errno
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Who can mend it: the engine by trying again, a person, or nobody."""

    RECOVERABLE = "recoverable"
    HUMAN_REQUIRED = "human_required"
    FATAL = "fatal"


class Effect(StrEnum):
    """What becomes of the run: the request is refused and nothing changes, the run is paused, or it has failed."""

    REFUSED = "refused"
    PAUSED = "paused"
    FAILED = "failed"


EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_ABORTED = 3
EXIT_PAUSED = 4

_EXITS = {Effect.REFUSED: EXIT_REFUSED, Effect.PAUSED: EXIT_PAUSED, Effect.FAILED: EXIT_FAILED}


@dataclass(frozen=True)
class ErrorSpec:
    """One row of the table; `hint` is the next thing to do where the place that raises names nothing better."""

    kind: Kind
    http_status: int
    effect: Effect
    hint: str

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with this error."""
        return _EXITS[self.effect]


def _refused(hint: str, http_status: int = 422, kind: Kind = Kind.HUMAN_REQUIRED) -> ErrorSpec:
    return ErrorSpec(kind, http_status, Effect.REFUSED, hint)


def _paused(hint: str, kind: Kind = Kind.HUMAN_REQUIRED) -> ErrorSpec:
    return ErrorSpec(kind, 409, Effect.PAUSED, hint)


def _failed(hint: str, kind: Kind = Kind.HUMAN_REQUIRED) -> ErrorSpec:
    return ErrorSpec(kind, 409, Effect.FAILED, hint)


ERRORS: dict[str, ErrorSpec] = {
    # before a run exists
    "repository_not_found": _refused("name a folder inside a git repository with --repo", 404),
    "repository_bare": _refused("name a clone with a work tree, not the bare repository"),
    "repository_empty": _refused("make a first commit, then run again"),
    "base_not_found": _refused("name an existing branch with --base"),
    "nested_repository": _refused("declare the nested repository as a submodule, or remove it from the commit"),
    "issue_invalid": _refused("give a non-empty UTF-8 text file, or - for standard input"),
    "workflow_not_found": _refused("name one of the workflows listed", 400),
    "persona_not_found": _refused("name one of the personas listed", 400),
    "schema_not_found": _refused("name one of the schemas listed, or add its file under .devflow/schemas", 400),
    "config_invalid": _refused("mend the file and check it with `devflow validate`", 400),
    "binding_unsatisfied": _refused("add a persona with these capabilities, or choose one with --persona ROLE=NAME"),
    "consent_required": _refused("read what the persona asks for, then `devflow consent grant NAME`"),
    "price_unknown": _refused("add the model's price to the price table, or run without a cap"),
    "database_unavailable": _refused("start the database or mend DEVFLOW_DATABASE_URL", 503, Kind.RECOVERABLE),
    "database_schema_newer": _refused("use the version of Devflow that wrote this database, or a later one", 503),
    "sandbox_unavailable": _refused("install bubblewrap, or see `devflow doctor` for what is missing"),
    "platform_unsupported": _refused("run it on Linux with git 2.39 or later", 503),
    # asking for a run
    "run_not_found": _refused("list the runs with `devflow runs`", 404),
    "run_id_ambiguous": _refused("type more of the id"),
    "run_already_terminal": _refused(
        "it has ended; `devflow retry RUN` starts over where it failed or was aborted", 409
    ),
    "run_metadata_missing": _refused("the run's rows are damaged; start a new run", 409),
    "template_load_failed": _refused("the stored workflow does not match its hash; start a new run", 409, Kind.FATAL),
    "worker_already_running": _refused("wait for it, or stop that process", 409, Kind.RECOVERABLE),
    "illegal_transition": _refused("see where the run stands with `devflow show RUN`", 409),
    "approval_superseded": _refused("look at the new request with `devflow show RUN` and decide on that", 409),
    "already_decided": _refused("see the decisions with `devflow show RUN`", 409),
    "snapshot_invalid": _refused("export the run again; what was changed or cut off is not guessed at"),
    "snapshot_conflict": _refused("import it into another database, or look at the run that is there", 409),
    "run_in_flight": _refused("wait until that run has ended, or abort it", 409),
    "permission_denied": _refused("ask somebody who has write permission on the repository", 403),
    "github_unavailable": _refused("nothing to do: it is tried again until it answers", 503, Kind.RECOVERABLE),
    "state_invalid": _refused("delete the state ref that the message names, then put the label on again", 409),
    "token_refused": _refused("give a token that GitHub takes: the workflow's own, or one that has not run out", 401),
    "permission_missing": _refused("give the workflow, or its token, the permission that the message names", 403),
    "pull_request_forbidden": _refused(
        "tick Settings > Actions > General > Workflow permissions > "
        "'Allow GitHub Actions to create and approve pull requests', or give another token as github-token",
        403,
    ),
    "state_untrusted": _refused("delete the state ref that the message names, then put the label on again", 409),
    "usage": _refused("see `devflow --help`", 400),
    # in a run, a person can mend it
    "budget_exceeded": _paused("raise the cap: `devflow approve RUN --note '+2.00'`"),
    "backend_unavailable": _paused("mend the model server's address or key, then `devflow resume RUN`"),
    "storage_full": _paused("free disk space, then `devflow resume RUN`"),
    "session_recovery_required": _paused("decide with `devflow approve RUN` (try again) or `devflow reject RUN`"),
    "push_conflict": _paused("put the branch back to the run's last commit, then `devflow resume RUN`"),
    "push_rejected": _paused("the repository's rules refuse the push; change the rule, then `devflow resume RUN`"),
    # in a run, final
    "artifact_timeout_exhausted": _failed("give the phase a longer timeout_seconds, then `devflow retry RUN`"),
    "artifact_invalid_after_repair": _failed("see the errors in the report, then `devflow retry RUN`"),
    "check_failed": _failed("see the check's output in the report, then `devflow retry RUN`"),
    "setup_failed": _failed("see the command's output in the report, mend `setup`, then `devflow retry RUN`"),
    "protected_path": _failed("the agent touched paths that the engine guards; see the report"),
    "revisions_exhausted": _failed("raise max_revisions, or take the work over by hand on the run's branch"),
    "approval_rejected": _failed("start a new run with a better issue text, or `devflow retry RUN`"),
    "agent_failed": _failed("see the report for what the agent did last, then `devflow retry RUN`"),
    # inside the engine, never a run's final word
    "fenced": _refused("another worker holds the run; nothing to do", 409, Kind.RECOVERABLE),
    "context_overflow": _failed("the conversation no longer fits the model; use a model with more context"),
    "model_reply_invalid": _failed("the model server answers with something that is no completion"),
    "cassette_incomplete": _failed("record the missing turn in the cassette"),
    "internal_error": _failed("this is a bug in Devflow; the report has its details", Kind.FATAL),
}


class DevflowError(Exception):
    """An error with a code from the table; `details` are plain JSON values that a surface may show."""

    def __init__(
        self, code: str, message: str, *, recovery_hint: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        self.spec = ERRORS[code]
        self.code = code
        self.message = message
        self.recovery_hint = recovery_hint or self.spec.hint
        self.details = details or {}
        super().__init__(f"{code}: {message}")

    def to_json(self) -> dict[str, Any]:
        """Return the pinned error object (without the `error` envelope)."""
        return {
            "code": self.code,
            "kind": str(self.spec.kind),
            "message": self.message,
            "recovery_hint": self.recovery_hint,
        }


class Fenced(DevflowError):  # noqa: N818 - the design's word for it
    """Another worker holds the lease by now: whatever this one was about to write must not be written."""

    def __init__(self, message: str) -> None:
        super().__init__("fenced", message)


def error_of(raised: BaseException) -> DevflowError:
    """Return the error that stands for an exception of any kind: itself, a full disk, else `internal_error`."""
    if isinstance(raised, DevflowError):
        return raised
    if isinstance(raised, OSError) and raised.errno in (errno.ENOSPC, errno.EDQUOT):
        return DevflowError("storage_full", "no space left on the device")
    return DevflowError("internal_error", f"{type(raised).__name__}: {raised}"[:500])
