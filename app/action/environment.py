"""What a step of a workflow is given: what GitHub says about the event, and the inputs that the user wrote.

First thing that `devflow action` reads. A composite action gets no `INPUT_...` variables by itself: `action.yml` hands
each input on as a variable whose name begins with `PREFIX`. Empty means not given.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.domain.config import CONFIG_PATH
from engine.domain.errors import DevflowError

PREFIX = "DEVFLOW_INPUT_"
SANDBOXES = ("auto", "bwrap", "sandlock", "none")
MOST_USD = 1_000_000
_GUARDED = (".github/", ".devflow/")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_ADDRESS = re.compile(r"https?://[^\s@/]+(/[^\s@]*)?")


@dataclass(frozen=True)
class StepEnvironment:
    """One step's surroundings and inputs; paths are absolute, addresses have no slash at their end."""

    event_name: str
    event_path: Path
    repository: str
    repository_id: int
    run_id: int
    run_attempt: int
    job: str
    api_url: str
    server_url: str
    actor: str
    workspace: Path | None
    temp: Path
    output: Path | None
    step_summary: Path | None
    run_url: str
    token: str = field(repr=False)
    openai_api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    model: str | None = None
    workflow: str | None = None
    database_url: str | None = field(default=None, repr=False)
    config: str = CONFIG_PATH
    budget_usd: Decimal | None = None
    sandbox: str = "auto"
    cassette: Path | None = None


def read_environment(environ: Mapping[str, str]) -> StepEnvironment:
    """Return the step's surroundings; raises `config_invalid` with the name of what is wrong, but no secret value."""
    given = _Given(environ)
    repository = given.variable("GITHUB_REPOSITORY")
    if not _REPOSITORY.fullmatch(repository):
        raise not_on_a_runner("GITHUB_REPOSITORY is no owner/name")
    server_url = given.address("GITHUB_SERVER_URL", "https://github.com")
    run_id = given.number("GITHUB_RUN_ID")
    workspace = given.path("GITHUB_WORKSPACE")
    token = given.input("github-token")
    if token is None:
        raise _wrong_input("github-token", "is empty", "leave it out for the job's own token")
    return StepEnvironment(
        event_name=given.variable("GITHUB_EVENT_NAME"),
        event_path=Path(given.variable("GITHUB_EVENT_PATH")),
        repository=repository,
        repository_id=given.number("GITHUB_REPOSITORY_ID"),
        run_id=run_id,
        run_attempt=given.number("GITHUB_RUN_ATTEMPT"),
        job=environ.get("GITHUB_JOB", ""),
        api_url=given.address("GITHUB_API_URL", "https://api.github.com"),
        server_url=server_url,
        actor=environ.get("GITHUB_ACTOR", ""),
        workspace=workspace,
        temp=Path(given.variable("RUNNER_TEMP")),
        output=given.path("GITHUB_OUTPUT"),
        step_summary=given.path("GITHUB_STEP_SUMMARY"),
        run_url=f"{server_url}/{repository}/actions/runs/{run_id}",
        token=token,
        openai_api_key=given.input("openai-api-key"),
        base_url=_base_url(given.input("base-url")),
        model=given.input("model"),
        workflow=given.input("workflow"),
        database_url=_database_url(given.input("database-url")),
        config=_config(given.input("config")),
        budget_usd=_budget(given.input("budget-usd")),
        sandbox=_sandbox(given.input("sandbox")),
        cassette=_cassette(given.input("cassette"), workspace),
    )


def secrets_in(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what must be masked in the log, the longest first; for a broken environment as well.

    The password of a database's address counts by itself, as it is typed and as it is meant, and so does the form in
    which git sends the token.
    """
    given = _Given(environ)
    found = {value for name in ("github-token", "openai-api-key", "database-url") if (value := given.input(name))}
    found |= _passwords(given.input("database-url") or "")
    if token := given.input("github-token"):
        found.add(base64.b64encode(f"x-access-token:{token}".encode()).decode())
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


class _Given:
    """Reads variables and inputs by name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def variable(self, name: str) -> str:
        value = self._environ.get(name, "")
        if not value:
            raise not_on_a_runner(f"{name} is not set")
        return value

    def number(self, name: str) -> int:
        text = self.variable(name)
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise not_on_a_runner(f"{name} is no number")
        return int(text)

    def path(self, name: str) -> Path | None:
        value = self._environ.get(name, "")
        return Path(value) if value else None

    def address(self, name: str, default: str) -> str:
        value = (self._environ.get(name) or default).rstrip("/")
        if not _ADDRESS.fullmatch(value):
            raise not_on_a_runner(f"{name} is no http or https address without a user name")
        return value

    def input(self, name: str) -> str | None:
        return self._environ.get(PREFIX + name.replace("-", "_").upper(), "").strip() or None


def not_on_a_runner(what: str) -> DevflowError:
    """Return the error of surroundings that are none of a workflow's step."""
    hint = "`devflow action` is started by GitHub Actions; docs/action.md has the workflow file"
    return DevflowError("config_invalid", what, recovery_hint=hint)


def _wrong_input(name: str, what: str, allowed: str) -> DevflowError:
    hint = f"mend `{name}:` under `with:` in the workflow file"
    return DevflowError("config_invalid", f"the input {name} {what}; allowed: {allowed}", recovery_hint=hint)


def _base_url(text: str | None) -> str | None:
    if text is not None and not _ADDRESS.fullmatch(text):
        # its text is not repeated: a user name and a password may stand in it
        raise _wrong_input("base-url", "is no such address", "an http or https address without a user name")
    return text.rstrip("/") if text else None


def _database_url(text: str | None) -> str | None:
    if text is not None and not re.match(r"postgres(ql)?://", text):
        raise _wrong_input("database-url", "is no such address", "postgresql://user:password@host/database")
    return text


def _config(text: str | None) -> str:
    if text is None:
        return CONFIG_PATH
    path = text.removeprefix("./")
    if path.startswith("/") or "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise _wrong_input("config", f"is {text[:200]!r}", "a path inside the repository")
    if not path.startswith(_GUARDED):
        # anywhere else an agent could write it, and change what its own run goes by next
        raise _wrong_input(
            "config", f"is {text[:200]!r}", "a file below .github/ or .devflow/, which agents cannot change"
        )
    return path


def _budget(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or not 0 < amount <= MOST_USD:
        raise _wrong_input(
            "budget-usd", f"is {text[:50]!r}", f"US dollars above 0 and at most {MOST_USD}, such as 2.50"
        )
    return amount


def _sandbox(text: str | None) -> str:
    if text is not None and text not in SANDBOXES:
        raise _wrong_input("sandbox", f"is {text[:50]!r}", ", ".join(SANDBOXES))
    return text or "auto"


def _cassette(text: str | None, workspace: Path | None) -> Path | None:
    if text is None:
        return None
    path = Path(text) if workspace is None else workspace / text
    if not path.is_absolute():
        raise _wrong_input("cassette", f"is {text[:200]!r}", "the path of a file in the checkout")
    return path


def _passwords(url: str) -> set[str]:
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return set()
    return {text for text in (password, unquote(password)) if text}
