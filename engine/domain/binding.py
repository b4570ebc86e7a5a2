"""Binding: which persona fills each role of a run, decided once at its start and stored.

Preference, first to last: the role's order of backends, models that the server is known to have, the order of the
personas given (the catalog puts a repository's own first). Roles choose in the template's order; where a choice leaves
a later role without anybody (`distinct_from`), the next best is tried.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.domain.canonical import canonical_json, content_hash, sha256_hex
from engine.domain.errors import DevflowError
from engine.domain.files import suggest
from engine.domain.persona import Backend, Persona
from engine.domain.workflow import Role, Workflow

Availability = Mapping[str, bool | str]


@dataclass(frozen=True)
class Binding:
    """Who fills a role; `binding_hash` covers the other fields."""

    role: str
    persona_name: str
    persona_version: int
    persona_hash: str
    backend: str
    model: str
    binding_hash: str


@dataclass(frozen=True)
class _Situation:
    available: Availability
    served_models: Collection[str] | None
    model: str | None

    def why_unavailable(self, persona: Persona) -> str:
        state = self.available.get(str(persona.backend), False)
        if state is True:
            return ""
        reason = f": {state}" if isinstance(state, str) and state else ""
        return f"backend {persona.backend} is not available{reason}"

    def model_of(self, persona: Persona) -> str:
        # A cassette has no model to choose.
        return persona.model if self.model is None or persona.backend is Backend.REPLAY else self.model

    def not_served(self, persona: Persona) -> bool:
        if self.served_models is None or persona.backend is not Backend.OPENAI:
            return False
        return self.model_of(persona) not in self.served_models


def bind(
    workflow: Workflow,
    personas: Sequence[Persona],
    *,
    available: Availability,
    defaults: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    model: str | None = None,
    consents: Collection[str] = (),
    served_models: Collection[str] | None = None,
) -> list[Binding]:
    """Return a binding for each role, in the template's order; the same input always gives the same bindings.

    `available` maps a backend to True or to why it cannot be used; `defaults` (the configuration's) and `overrides`
    (what was typed) map a role to a persona's name, and `defaults` may name roles of other workflows; `consents` are
    hashes of personas. Raises `persona_not_found`, `binding_unsatisfied` (which role lacks what) or `consent_required`.
    """
    chosen_names = {
        **{role: name for role, name in (defaults or {}).items() if any(role == one.id for one in workflow.roles)},
        **(overrides or {}),
    }
    by_name = {persona.name: persona for persona in personas}
    _check_overrides(workflow, chosen_names, by_name)
    situation = _Situation(available, served_models, model)
    candidates = {role.id: _candidates(role, personas, chosen_names.get(role.id), situation) for role in workflow.roles}
    choice = next(_choices(workflow, candidates, {}), None)
    if choice is None:
        raise _unsatisfied_together(workflow, candidates)
    _check_consent(choice, consents)
    return [_binding(role, choice[role.id], situation.model_of(choice[role.id])) for role in workflow.roles]


def _check_overrides(workflow: Workflow, names: Mapping[str, str], by_name: Mapping[str, Persona]) -> None:
    roles = [role.id for role in workflow.roles]
    for role, name in sorted(names.items()):
        if role not in roles:
            raise DevflowError(
                "binding_unsatisfied",
                f"workflow {workflow.name} has no role {role!r}; its roles: {', '.join(roles)}{suggest(role, roles)}",
                recovery_hint="name one of these roles in --persona ROLE=NAME, or in `personas` of the configuration",
            )
        if name not in by_name:
            known = ", ".join(sorted(by_name)) or "none"
            raise DevflowError(
                "persona_not_found",
                f"there is no persona {name!r} for role {role}{suggest(name, by_name)}; personas: {known}",
            )


def _candidates(role: Role, personas: Sequence[Persona], name: str | None, situation: _Situation) -> list[Persona]:
    """Return who can fill the role, the best first; raises `binding_unsatisfied` where nobody can."""
    considered = [persona for persona in personas if name is None or persona.name == name]
    refusals = {persona.name: _refusal(role, persona, situation) for persona in considered}
    able = [persona for persona in considered if not refusals[persona.name]]
    if not able:
        raise _unsatisfied(role, considered, refusals, situation)
    order = [*role.preferred_backends, *(one for one in Backend if one not in role.preferred_backends)]
    return sorted(able, key=lambda persona: (order.index(persona.backend), situation.not_served(persona)))


def _refusal(role: Role, persona: Persona, situation: _Situation) -> str:
    lacking = [str(one) for one in role.required_capabilities if one not in persona.capabilities]
    if lacking:
        return f"lacks {', '.join(lacking)}"
    return situation.why_unavailable(persona)


def _choices(
    workflow: Workflow, candidates: Mapping[str, Sequence[Persona]], chosen: dict[str, Persona]
) -> Iterator[dict[str, Persona]]:
    if len(chosen) == len(workflow.roles):
        yield dict(chosen)
        return
    role = workflow.roles[len(chosen)]
    taken = {
        chosen[other.id].name
        for other in workflow.roles[: len(chosen)]
        if other.id in role.distinct_from or role.id in other.distinct_from
    }
    for persona in candidates[role.id]:
        if persona.name not in taken:
            yield from _choices(workflow, candidates, {**chosen, role.id: persona})


def _unsatisfied(
    role: Role, considered: Sequence[Persona], refusals: Mapping[str, str], situation: _Situation
) -> DevflowError:
    wanted = ", ".join(role.required_capabilities)
    reasons = [f"{name} {reason}" for name, reason in refusals.items()]
    capable = [one for one in considered if set(role.required_capabilities) <= set(one.capabilities)]
    hint = None
    if capable:
        # Nobody lacks a capability; what is missing is something to run them on.
        why = sorted({situation.why_unavailable(one) for one in capable})
        hint = f"make one of these usable: {'; '.join(why)}"
        reasons = [f"{one.name} cannot be used: {refusals[one.name]}" for one in capable]
    text = "; ".join(reasons) or "there are no personas"
    return DevflowError("binding_unsatisfied", f"role {role.id} needs {wanted}; {text}", recovery_hint=hint)


def _unsatisfied_together(workflow: Workflow, candidates: Mapping[str, Sequence[Persona]]) -> DevflowError:
    parts = []
    for role in workflow.roles:
        if role.distinct_from:
            names = ", ".join(persona.name for persona in candidates[role.id])
            others = " and ".join(
                f"{other} ({', '.join(persona.name for persona in candidates[other])})" for other in role.distinct_from
            )
            parts.append(f"role {role.id} ({names}) needs another persona than {others}")
    return DevflowError("binding_unsatisfied", f"there are too few personas: {'; '.join(parts)}")


def _check_consent(choice: Mapping[str, Persona], consents: Collection[str]) -> None:
    asking = {one.name: one.consent for one in choice.values() if one.consent and content_hash(one) not in consents}
    if not asking:
        return
    parts = []
    for name, consent in asking.items():
        reasons = ", ".join(str(reason).replace("_", " ") for reason in consent.reasons)
        text = f" - {consent.text.strip()}" if consent.text.strip() else ""
        parts.append(f"persona {name} asks for consent ({reasons}){text}")
    commands = "; ".join(f"`devflow consent grant {name}`" for name in asking)
    raise DevflowError("consent_required", "; ".join(parts), recovery_hint=f"if you agree: {commands}")


def _binding(role: Role, persona: Persona, model: str) -> Binding:
    fields: dict[str, str | int] = {
        "role": role.id,
        "persona_name": persona.name,
        "persona_version": persona.version,
        "persona_hash": content_hash(persona),
        "backend": str(persona.backend),
        "model": model,
    }
    return Binding(
        role=role.id,
        persona_name=persona.name,
        persona_version=persona.version,
        persona_hash=content_hash(persona),
        backend=str(persona.backend),
        model=model,
        binding_hash=sha256_hex(canonical_json(fields).encode()),
    )
