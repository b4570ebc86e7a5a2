"""Workflow templates: roles, phases and gates, as users write them and as a run stores them.

The catalog reads a template, `content_hash` addresses it, and a run keeps the one it started with.
"""

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from engine.domain.files import ALLOWED, Finding, raise_findings, suggest
from engine.domain.persona import Backend, Capability, Part, Slug, Text, Version

ALL_CHECKS = "all"
MAX_TIMEOUT_SECONDS = 86_400

Usd = Annotated[
    Decimal,
    Field(gt=0, le=1_000_000, decimal_places=6, json_schema_extra={ALLOWED: "US dollars above 0, e.g. 2.50"}),
]
Command = Annotated[
    str,
    StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*\S[^\x00]*$"),
    Field(json_schema_extra={ALLOWED: "a shell command of at most 4096 characters"}),
]
Title = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*[^\s\x00-\x1f][^\x00-\x1f]*$"),
    Field(json_schema_extra={ALLOWED: "one line of at most 200 characters"}),
]
SCHEMA_ID_PATTERN = r"^[a-z][a-z0-9_-]{0,62}/[a-z][a-z0-9_-]{0,62}@[1-9][0-9]{0,5}$"
SchemaId = Annotated[
    str,
    StringConstraints(pattern=SCHEMA_ID_PATTERN),
    Field(json_schema_extra={ALLOWED: "a schema id such as dev/spec@1"}),
]
CheckName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"),
    Field(json_schema_extra={ALLOWED: "a check's name: letters, digits, . _ -"}),
]


class Risk(StrEnum):
    """How much a phase can spoil; a high one always has a gate."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Expect(StrEnum):
    """How a check has to end."""

    PASS = "pass"  # noqa: S105 - the word of the file format
    FAIL = "fail"


class Gate(Part):
    """A stop after a phase; so many distinct people have to approve."""

    key: Slug
    required_approvals: int = Field(default=1, ge=1, le=20)


IMPLIED_GATE = Gate(key="high_risk")
# These names belong to the gates that the engine posts outside a phase.
ENGINE_GATES = frozenset({"session_recovery_required", "budget_exceeded"})


def _gate(value: Any) -> Any:
    return {"key": value} if isinstance(value, str) else value


GateEntry = Annotated[
    Gate, BeforeValidator(_gate), Field(json_schema_extra={ALLOWED: "a gate's name or {key, required_approvals}"})
]


class Role(Part):
    """A job in the workflow; its persona must differ from those of the roles in `distinct_from`."""

    id: Slug
    required_capabilities: tuple[Capability, ...] = Field(min_length=1)
    preferred_backends: tuple[Backend, ...] = tuple(Backend)
    distinct_from: tuple[Slug, ...] = ()


class ExpectedArtifact(Part):
    """Where the agent writes the artifact (relative to the worktree) and which schema it has."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    schema_id: SchemaId = Field(alias="schema")

    model_config = ConfigDict(serialize_by_alias=True)


class CheckUse(Part):
    """A check that the engine runs after the phase: one by its name in the configuration, or `all`."""

    use: CheckName
    expect: Expect = Expect.PASS


class PhaseSpec(Part):
    """One step; `gates` None means the template's default gates, an empty list means none."""

    key: Slug
    title: Title
    risk: Risk = Risk.LOW
    role: Slug
    instructions: Text
    timeout_seconds: int = Field(default=300, ge=1, le=MAX_TIMEOUT_SECONDS)
    expected_artifact: ExpectedArtifact | None = None
    gates: tuple[GateEntry, ...] | None = None
    checks: tuple[CheckUse, ...] = ()
    network: bool = False
    allow_lock_files: bool = False
    max_revisions: int = Field(default=3, ge=0, le=100)
    revise_from: Slug | None = None
    on_changes_requested: Slug | None = None


class Workflow(Part):
    """A template; `budget_usd` caps a run that names no cap of its own."""

    name: Slug
    version: Version
    description: str = Field(default="", max_length=2000)
    setup: tuple[Command, ...] = ()
    roles: tuple[Role, ...] = Field(min_length=1, max_length=16)
    default_gates: tuple[GateEntry, ...] = ()
    phases: tuple[PhaseSpec, ...] = Field(min_length=1, max_length=64)
    budget_usd: Usd | None = None

    def phase(self, key: str) -> PhaseSpec:
        """Return the phase with this key; raises KeyError where the template has none."""
        for phase in self.phases:
            if phase.key == key:
                return phase
        raise KeyError(key)

    def role(self, role_id: str) -> Role:
        """Return the role with this id; raises KeyError where the template has none."""
        for role in self.roles:
            if role.id == role_id:
                return role
        raise KeyError(role_id)

    def gates_of(self, phase: PhaseSpec) -> tuple[Gate, ...]:
        """Return the gates after the phase in their order; a phase of high risk has at least one."""
        gates = self.default_gates if phase.gates is None else phase.gates
        return gates or ((IMPLIED_GATE,) if phase.risk is Risk.HIGH else ())

    def is_code_phase(self, phase: PhaseSpec) -> bool:
        """Whether what the phase changes in the tree is published (its role can write code)."""
        return Capability.CODE_WRITE in self.role(phase.role).required_capabilities

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        raise_findings([*self._roles_agree(), *self._gates_agree(), *self._phases_agree()])
        return self

    def _roles_agree(self) -> Iterator[Finding]:
        ids = [role.id for role in self.roles]
        yield from _repeated(ids, ("roles",), "id")
        for index, role in enumerate(self.roles):
            for place, other in enumerate(role.distinct_from):
                if other not in ids or other == role.id:
                    allowed = ", ".join(name for name in ids if name != role.id) or "no role (there is only one)"
                    yield Finding(("roles", index, "distinct_from", place), f'"{other}"', allowed)

    def _gates_agree(self) -> Iterator[Finding]:
        lists: list[tuple[tuple[str | int, ...], tuple[Gate, ...]]] = [(("default_gates",), self.default_gates)]
        lists += [(("phases", index, "gates"), phase.gates or ()) for index, phase in enumerate(self.phases)]
        for where, gates in lists:
            yield from _repeated([gate.key for gate in gates], where)
            for index, gate in enumerate(gates):
                if gate.key in ENGINE_GATES:
                    yield Finding((*where, index), f'"{gate.key}"', "a name that the engine does not use itself")

    def _phases_agree(self) -> Iterator[Finding]:
        roles = [role.id for role in self.roles]
        keys = [phase.key for phase in self.phases]
        yield from _repeated(keys, ("phases",), "key")
        for index, phase in enumerate(self.phases):
            where = ("phases", index)
            if phase.role not in roles:
                yield Finding((*where, "role"), f'"{phase.role}"', ", ".join(roles) + suggest(phase.role, roles))
            reachable = keys[: index + 1]
            for name in ("revise_from", "on_changes_requested"):
                target = getattr(phase, name)
                if target is not None and target not in reachable:
                    yield Finding(
                        (*where, name), f'"{target}"', f"this phase or an earlier one: {', '.join(reachable)}"
                    )
            if phase.on_changes_requested is not None and phase.expected_artifact is None:
                allowed = "an artifact with a verdict (expected_artifact), or no on_changes_requested"
                yield Finding((*where, "on_changes_requested"), "no artifact to read a verdict from", allowed)
            if phase.expected_artifact is not None and (wrong := artifact_path_problem(phase.expected_artifact.path)):
                path = phase.expected_artifact.path
                yield Finding(
                    (*where, "expected_artifact", "path"), f"{path!r} ({wrong})", "a path inside the worktree"
                )
            yield from _repeated([check.use for check in phase.checks], (*where, "checks"), "use")


def _repeated(names: list[str], where: tuple[str | int, ...], key: str = "") -> Iterator[Finding]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Finding((*where, index, *([key] if key else [])), f'"{name}" again', "each once")


def artifact_path_problem(path: str) -> str:
    """Return why an artifact may not lie at this path, or nothing where it may."""
    parts = path.lower().split("/")
    if path.startswith("/"):
        return "it is absolute"
    if any(ord(char) < 32 or char in "\\\x7f" for char in path):
        return "it has a backslash or a control character"
    if ".." in parts:
        return "it leaves the worktree"
    if "" in parts or "." in parts:
        return "it has an empty or . part"
    if any(part.rstrip(". ") == ".git" for part in parts):
        return "it is git's own"
    if parts[0] == ".github" or parts[:2] == [".devflow", "runs"]:
        return "it is a protected folder"
    return ""
