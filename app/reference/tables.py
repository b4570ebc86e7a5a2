"""Tables of the reference pages, each made from the part of the code that decides the matter."""

import inspect
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

import typer
from pydantic import BaseModel

from app.cli import app
from app.inbound import midrun
from app.inbound.commands import registry
from app.reference.meanings import MEANINGS
from app.reference.step import INPUTS_HEAD, OUTPUTS_HEAD, input_rows, output_rows
from app.settings import Environment
from engine.agents.replay_agent import Cassette, RecordedCall
from engine.agents.tool_specs import NAMES, spec
from engine.catalog import Catalog
from engine.domain.config import Check, RepositoryConfig
from engine.domain.errors import ERRORS, Effect
from engine.domain.events import EVENT_TYPES
from engine.domain.files import allowed_at
from engine.domain.persona import Consent, Persona, PersonaLimits
from engine.domain.pricing import Price, PriceFile
from engine.domain.states import TRANSITIONS
from engine.domain.workflow import CheckUse, ExpectedArtifact, Gate, PhaseSpec, Role, Workflow

_EFFECTS = {
    Effect.REFUSED: "refused, nothing changes",
    Effect.PAUSED: "the run is paused",
    Effect.FAILED: "the run has failed",
}
# Read where they are needed, before there are settings.
_OTHER_VARIABLES = {
    "DEVFLOW_LOG_LEVEL": ("`WARNING`", "Level of the log on standard error: `DEBUG`, `INFO`, `WARNING`, `ERROR`."),
    "DEVFLOW_FAILPOINT": ("", "For tests: `NAME#N` kills the process before the N-th passing of that failure point."),
    "DEVFLOW_FAILPOINT_LOG": ("", "For tests: a file that gets the name of every failure point that is passed."),
}
# By page section: where in the file a model's keys stand.
_GROUPS: dict[str, dict[str, type[BaseModel]]] = {
    "workflow-keys": {
        "the file": Workflow,
        "roles[]": Role,
        "phases[]": PhaseSpec,
        "phases[].expected_artifact": ExpectedArtifact,
        "default_gates[], phases[].gates[]": Gate,
        "phases[].checks[]": CheckUse,
    },
    "persona-keys": {"the file": Persona, "limits": PersonaLimits, "consent": Consent},
    "configuration-keys": {"the file": RepositoryConfig, "checks.NAME": Check},
    "price-keys": {"the file": PriceFile, "models.NAME": Price},
    "cassette-keys": {"the file": Cassette, "turns.KEY[][]": RecordedCall},
}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    cells = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def errors() -> str:
    """Return every error code with its kind, exit code, HTTP status, effect and hint."""
    rows = (
        (f"`{code}`", str(one.kind), str(one.exit_code), str(one.http_status), _EFFECTS[one.effect], one.hint)
        for code, one in ERRORS.items()
    )
    return table(("code", "kind", "exit", "HTTP", "effect", "what to do next"), rows)


def environment() -> str:
    """Return every environment variable with its default and meaning."""
    rows = []
    for name, field in Environment.model_fields.items():
        variable = field.validation_alias or f"DEVFLOW_{name.upper()}"
        default = "" if field.default in (None, "") else f"`{field.default}`"
        rows.append((f"`{variable}`", default, field.description or ""))
    rows += [(f"`{name}`", default, text) for name, (default, text) in _OTHER_VARIABLES.items()]
    return table(("variable", "default", "meaning"), rows)


def variables() -> list[str]:
    """Return the names of all environment variables that Devflow reads."""
    named = [str(one.validation_alias or f"DEVFLOW_{name.upper()}") for name, one in Environment.model_fields.items()]
    return named + list(_OTHER_VARIABLES)


def keys(models: dict[str, type[BaseModel]]) -> str:
    """Return the keys of the models of one file format; raises KeyError for a key whose meaning nobody wrote down."""
    parts = []
    for place, model in models.items():
        rows = []
        for name, field in model.model_fields.items():
            key = field.alias or name
            default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
            rows.append((f"`{key}`", allowed_at(model, (key,)), default, MEANINGS[model.__name__][key]))
        heading = "Keys of the file:" if place == "the file" else f"Keys of `{place}`:"
        parts.append(heading + "\n\n" + table(("key", "allowed", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _default(value: Any) -> str:
    if value is None or value in ((), {}, ""):
        return "absent" if value is None else "empty"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple):
        return "all of them"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def commands() -> str:
    """Return every command with its usage, what it does and its options."""
    parts = []
    for name, command in command_list():
        arguments, options = [], []
        for parameter in command.params:
            shown = parameter.metavar or _choices(parameter.type_descriptor.annotation) or parameter.name.upper()
            if parameter.param_type_name == "argument":
                arguments.append(shown)
            else:
                flag = getattr(parameter, "is_flag", False)
                usage = "/".join(parameter.opts) + ("" if flag else f" {shown}")
                note = "required" if parameter.required else "repeatable" if parameter.multiple else ""
                options.append((f"`{usage}`", note, getattr(parameter, "help", "") or ""))
        usage = " ".join(["devflow", name, *arguments, *(["[OPTIONS]"] if options else [])])
        parts.append(f"### `{usage}`\n\n{command.help}")
        if options:
            parts.append(table(("option", "", "meaning"), options))
    return "\n\n".join(parts)


def _choices(kind: object) -> str:
    return "|".join(str(one) for one in kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ""


def command_list() -> list[tuple[str, Any]]:
    """Return the commands of the command line with their full names, such as `consent grant`."""
    found: list[tuple[str, Any]] = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [(name, command)] if inner is None else [(f"{name} {one}", sub) for one, sub in inner.items()]
    return found


def transitions() -> str:
    """Return the legal transitions of every kind of state."""
    parts = []
    for kind, steps in TRANSITIONS.items():
        rows = (
            (f"`{old}`", ", ".join(f"`{new}`" for new in kind if new in steps[old]) or "nothing: it is final")
            for old in kind
        )
        parts.append(f"**{kind.__name__}**\n\n" + table(("from", "to"), rows))
    return "\n\n".join(parts)


def events() -> str:
    """Return the event types with what each carries."""
    rows = (
        (f"`{name}`", (inspect.getdoc(kind) or "").splitlines()[0], ", ".join(f"`{key}`" for key in kind.model_fields))
        for name, kind in EVENT_TYPES.items()
    )
    return table(("type", "when", "payload"), rows)


def workflows() -> str:
    """Return the built-in workflows with their phases."""
    catalog = Catalog()
    rows = []
    for name in catalog.workflow_names():
        workflow = catalog.workflow(name)
        for phase in workflow.phases:
            gates = ", ".join(gate.key for gate in workflow.gates_of(phase))
            checks = ", ".join(f"{use.use}: {use.expect}" for use in phase.checks)
            artifact = f"`{phase.expected_artifact.schema_id}`" if phase.expected_artifact else ""
            back = f"`{phase.on_changes_requested}`" if phase.on_changes_requested else ""
            time = f"{phase.timeout_seconds} s"
            rows.append((f"`{name}@{workflow.version}`", f"`{phase.key}`", artifact, checks, gates, back, time))
    return table(("workflow", "phase", "artifact", "checks", "gates", "changes requested: to", "time"), rows)


def personas() -> str:
    """Return the built-in personas."""
    rows = (
        (f"`{one.name}`", str(one.backend), f"`{one.model}`", ", ".join(one.capabilities), one.description)
        for one in Catalog().personas()
    )
    return table(("persona", "backend", "model", "capabilities", ""), rows)


def tools() -> str:
    """Return the tools of an agent."""
    rows = [(f"`{name}`", spec(name)["function"]["description"]) for name in NAMES]
    rows.append(("`submit_artifact`", "Hand in the artifact; its argument `artifact` has the phase's schema."))
    return table(("tool", "what it does"), rows)


def comment_commands() -> str:
    """Return the comment commands with what they do and who may use them."""
    rows = ((f"`{typed}`", what, who) for typed, what, who in registry.table(prefixed=False))
    return table(("comment", "what it does", "who may"), rows)


def midrun_events() -> str:
    """Return what may happen on GitHub in mid-run, and what it does to the run."""
    head = ("what happens", "at a gate", "while it works", "")
    return table(head, midrun.table())


def _keys_of(models: dict[str, type[BaseModel]]) -> Callable[[], str]:
    return lambda: keys(models)


SECTIONS: dict[str, Callable[[], str]] = {
    "errors": errors,
    "environment": environment,
    "commands": commands,
    "transitions": transitions,
    "events": events,
    "workflows": workflows,
    "personas": personas,
    "tools": tools,
    "comment-commands": comment_commands,
    "mid-run-events": midrun_events,
    "action-inputs": lambda: table(INPUTS_HEAD, input_rows()),
    "action-outputs": lambda: table(OUTPUTS_HEAD, output_rows()),
    **{name: _keys_of(models) for name, models in _GROUPS.items()},
}
