"""Personas: what an agent is told to be, on which backend and model, and what it can and may do.

A persona file is read by the catalog, bound to a role by `binding`, and stored under its content hash.
"""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from engine.domain.files import ALLOWED, Finding, raise_findings


class Capability(StrEnum):
    """What a persona is good for; a role asks for these."""

    SPEC_WRITE = "spec_write"
    PHASE_PLANNING = "phase_planning"
    CODE_WRITE = "code_write"
    CODE_REVIEW = "code_review"
    TEST_RUN = "test_run"
    DOCS_WRITE = "docs_write"
    TRIAGE = "triage"


class Backend(StrEnum):
    """What runs a persona: a model server, a command-line agent, or a cassette."""

    OPENAI = "openai"
    COMMAND = "command"
    REPLAY = "replay"


class ToolName(StrEnum):
    """The tools that an agent may be given."""

    READ_FILE = "read_file"
    WRITE_FILE = "write_file"
    EDIT_FILE = "edit_file"
    LIST_FILES = "list_files"
    SEARCH_FILES = "search_files"
    RUN_COMMAND = "run_command"
    SUBMIT_ARTIFACT = "submit_artifact"


class ConsentReason(StrEnum):
    """Why a persona asks before it is used."""

    COST = "cost"
    DATA_LEAVES_THE_HOUSE = "data_leaves_the_house"


SLUG_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
Slug = Annotated[
    str,
    StringConstraints(pattern=SLUG_PATTERN),
    Field(json_schema_extra={ALLOWED: "a name of a-z, 0-9, - and _ that starts with a letter, at most 63 characters"}),
]
Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=20_000, pattern=r"^[^\x00]*\S[^\x00]*$"),
    Field(json_schema_extra={ALLOWED: "text that is not blank, at most 20000 characters"}),
]
Version = Annotated[int, Field(ge=1, le=1_000_000)]


class Part(BaseModel):
    """Base of everything that is read from a user's file: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Consent(Part):
    """What a person agrees to before the persona is used."""

    reasons: tuple[ConsentReason, ...] = Field(min_length=1)
    text: str = Field(default="", max_length=2000)


class PersonaLimits(Part):
    """Bounds of one attempt; times in seconds."""

    max_turns: int = Field(default=50, ge=1, le=1000)
    max_output_tokens: int = Field(default=8192, ge=64, le=1_000_000)
    command_timeout_seconds: int = Field(default=120, ge=1, le=86_400)


def _consent(value: Any) -> Any:
    if value is True:
        return {"reasons": tuple(ConsentReason)}
    if isinstance(value, dict) and isinstance(value.get("reasons"), list):
        # What a validator hands on is no longer JSON to pydantic, so strict mode wants the final types.
        known = {str(reason): reason for reason in ConsentReason}
        return {**value, "reasons": tuple(known.get(str(one), one) for one in value["reasons"])}
    return None if value is False else value


class Persona(Part):
    """An agent definition; `consent` is None where nobody has to be asked."""

    name: Slug
    version: Version
    description: str = Field(default="", max_length=500)
    backend: Backend
    model: Annotated[str, StringConstraints(pattern=r"^\S{1,200}$")]
    prompt: Text
    capabilities: tuple[Capability, ...] = Field(min_length=1)
    tools: tuple[ToolName, ...] = tuple(ToolName)
    consent: Annotated[
        Consent | None,
        BeforeValidator(_consent),
        Field(json_schema_extra={ALLOWED: "true, false or {reasons, text}"}),
    ] = None
    limits: PersonaLimits = PersonaLimits()

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        findings = [
            Finding((field, index), f'"{value}" again', "each once")
            for field, values in (("capabilities", self.capabilities), ("tools", self.tools))
            for index, value in enumerate(values)
            if value in values[:index]
        ]
        if not {ToolName.SUBMIT_ARTIFACT, ToolName.WRITE_FILE} & set(self.tools):
            findings.append(
                Finding(("tools",), "no way to deliver an artifact", "submit_artifact or write_file among the tools")
            )
        raise_findings(findings)
        return self
