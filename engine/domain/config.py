"""The repository's configuration, `.github/devflow.yml` of the default branch, and the checks found without one.

The catalog reads it; the start of a run merges it with what was typed. A missing file is a configuration of defaults.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from engine.domain.errors import DevflowError
from engine.domain.files import ALLOWED, Finding, raise_findings, suggest
from engine.domain.persona import Part, Slug
from engine.domain.pricing import ModelName, Price
from engine.domain.workflow import ALL_CHECKS, MAX_TIMEOUT_SECONDS, CheckName, Command, Expect, PhaseSpec, Usd

CONFIG_PATH = ".github/devflow.yml"
DEFAULT_WORKFLOW = "development"

Login = Annotated[
    str,
    StringConstraints(pattern=r"^[^\s,]{1,254}$"),
    Field(json_schema_extra={ALLOWED: "a login or e-mail address"}),
]
Label = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50, pattern=r"^\S(?:.*\S)?$"),
    Field(json_schema_extra={ALLOWED: "a label of at most 50 characters"}),
]


class CommandStyle(StrEnum):
    """Which comment commands count: `/approve` too, or only `/devflow approve`."""

    ANY = "any"
    PREFIXED = "prefixed"


class OnConflict(StrEnum):
    """What a second trigger does while a run is in flight for the issue."""

    REJECT = "reject"
    QUEUE = "queue"
    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"


class Check(Part):
    """A command that shows whether the work is right: exit code 0 is a pass."""

    run: Command
    timeout_seconds: int = Field(default=600, ge=1, le=MAX_TIMEOUT_SECONDS)


class RepositoryConfig(Part):
    """What a repository sets; None means not set (`checks`: then the usual ones are detected)."""

    checks: dict[CheckName, Check] | None = None
    setup: tuple[Command, ...] | None = None
    workflow: Slug = DEFAULT_WORKFLOW
    budget_usd: Usd | None = None
    approvers: tuple[Login, ...] = ()
    requester_may_approve: bool = True
    required_approvals: int | None = Field(default=None, ge=1, le=20)
    labels: dict[Label, Slug] = Field(default_factory=dict)
    commands: CommandStyle = CommandStyle.ANY
    on_conflict: OnConflict = OnConflict.REJECT
    abort_on_unlabel: bool = False
    publish_conversations: bool = False
    personas: dict[Slug, Slug] = Field(default_factory=dict)
    prices: dict[ModelName, Price] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if ALL_CHECKS in (self.checks or {}):
            raise_findings(
                [Finding(("checks", ALL_CHECKS), f'"{ALL_CHECKS}"', "a name that does not mean every check")]
            )
        return self


def detect_checks(file_names: Collection[str], reader: Callable[[str], bytes | None]) -> dict[str, Check]:
    """Return the usual checks of a repository, from the names in its root folder and `reader(name)` for contents.

    Folders may be named with or without a final slash. `make test` is taken only where nothing more exact is found,
    because it mostly runs one of the others after preparations that need a network.
    """
    names = {name.rstrip("/") for name in file_names}

    def text(name: str) -> str:
        return (reader(name) or b"").decode("utf-8", "replace") if name in names else ""

    found: dict[str, str] = {}
    if _uses_pytest(names, text):
        found["pytest"] = "python3 -m pytest -q"
    if _has_npm_test(text("package.json")):
        found["npm-test"] = "npm test"
    if "Cargo.toml" in names:
        found["cargo-test"] = "cargo test"
    if "go.mod" in names:
        found["go-test"] = "go test ./..."
    makefile = next((name for name in ("GNUmakefile", "makefile", "Makefile") if name in names), "")
    if not found and re.search(r"^test[ \t]*:(?![:=])|^test[ \t]+[^:=\n]*:(?!=)", text(makefile), re.MULTILINE):
        found["make-test"] = "make test"
    return {name: Check(run=run) for name, run in found.items()}


def _uses_pytest(names: set[str], text: Callable[[str], str]) -> bool:
    if names & {"pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "conftest.py"}:
        return True
    if any(re.fullmatch(r"test_.*\.py|.*_test\.py", name) for name in names):
        return True
    if re.search(r"^\[(tool:)?pytest\]", text("setup.cfg") + "\n" + text("tox.ini"), re.MULTILINE):
        return True
    pyproject = text("pyproject.toml")
    if re.search(r"^\[tool\.pytest\b", pyproject, re.MULTILINE) or re.search(r"[\"']pytest\b", pyproject):
        return True
    is_python = bool(names & {"pyproject.toml", "setup.py", "setup.cfg"}) or any(n.endswith(".py") for n in names)
    return is_python and bool(names & {"tests", "test"})


def _has_npm_test(package: str) -> bool:
    try:
        value = json.loads(package or "null")
    except (ValueError, RecursionError):
        return False
    scripts = value.get("scripts") if isinstance(value, dict) else None
    script = scripts.get("test") if isinstance(scripts, dict) else None
    # npm init writes a test script that only says that there is none.
    return isinstance(script, str) and bool(script.strip()) and "no test specified" not in script


def with_extra_checks(checks: Mapping[str, Check], commands: Sequence[str]) -> dict[str, Check]:
    """Return the checks and one more for each command, named `extra-1`, `extra-2` and so on."""
    result = dict(checks)
    number = 0
    for command in commands:
        number += 1
        while f"extra-{number}" in result:
            number += 1
        result[f"extra-{number}"] = Check(run=command)
    return result


def checks_of(phase: PhaseSpec, checks: Mapping[str, Check]) -> list[tuple[str, Check, Expect]]:
    """Return the checks to run after a phase, each once, a check's own entry before `all`; raises `config_invalid`.

    `all` with no check known is an empty list; a name that is not known is an error.
    """
    chosen: dict[str, Expect] = {}
    for use in sorted(phase.checks, key=lambda use: use.use == ALL_CHECKS):
        if use.use != ALL_CHECKS and use.use not in checks:
            known = ", ".join(sorted(checks)) or "none"
            raise DevflowError(
                "config_invalid",
                f"phase {phase.key} uses the check {use.use!r}; known checks: {known}{suggest(use.use, checks)}",
                recovery_hint=f"add it to `checks` in {CONFIG_PATH}",
            )
        for name in checks if use.use == ALL_CHECKS else (use.use,):
            chosen.setdefault(name, use.expect)
    return [(name, checks[name], expect) for name, expect in chosen.items()]


def expectations_met(results: Sequence[tuple[Expect, int | None]]) -> bool:
    """Whether a phase's check results, as (expected, exit code), are what it needs.

    Each expected pass has to pass. Where failures are expected, at least one has to fail: a bug that is reproduced
    need not break every check. A check that ran out of time (None) or could not be started (126, 127) meets nothing.
    """
    passes = [code for expect, code in results if expect is Expect.PASS]
    failures = [code for expect, code in results if expect is Expect.FAIL]
    failed = [code for code in failures if code not in (None, 0, 126, 127)]
    return all(code == 0 for code in passes) and (bool(failed) or not failures)
