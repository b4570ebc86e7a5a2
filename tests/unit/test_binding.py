"""Binding: who fills which role, in which order of preference, and what is said where nobody can."""

from typing import Any

import pytest

from engine.catalog import Catalog
from engine.domain.binding import Binding, bind
from engine.domain.canonical import content_hash
from engine.domain.errors import DevflowError
from engine.domain.persona import Backend, Capability, Consent, ConsentReason, Persona
from engine.domain.workflow import Workflow

ALL = {"openai": True, "command": True, "replay": True}


def persona(name: str, *capabilities: str, backend: str = "openai", model: str = "m", **more: Any) -> Persona:
    return Persona(
        name=name,
        version=1,
        backend=Backend(backend),
        model=model,
        prompt="Work.",
        capabilities=tuple(Capability(one) for one in capabilities),
        **more,
    )


def workflow(*roles: dict[str, Any]) -> Workflow:
    phases = [{"key": "one", "title": "One", "role": roles[0]["id"], "instructions": "Do."}]
    return Workflow.model_validate({"name": "w", "version": 1, "roles": list(roles), "phases": phases})


def role(name: str, *capabilities: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "required_capabilities": list(capabilities), **more}


def names(bindings: list[Binding]) -> dict[str, str]:
    return {one.role: one.persona_name for one in bindings}


def test_a_role_gets_a_persona_that_has_all_its_capabilities() -> None:
    template = workflow(role("a", "code_write", "test_run"))
    personas = [persona("half", "code_write"), persona("whole", "code_write", "test_run", "triage")]

    assert names(bind(template, personas, available=ALL)) == {"a": "whole"}


def test_the_order_of_preferred_backends_comes_before_the_order_of_personas() -> None:
    template = workflow(role("a", "triage", preferred_backends=["command", "openai"]))
    personas = [persona("model", "triage"), persona("cli", "triage", backend="command")]

    assert names(bind(template, personas, available=ALL)) == {"a": "cli"}
    assert names(bind(template, personas, available={"openai": True})) == {"a": "model"}


def test_a_model_that_the_server_has_is_preferred_and_never_required() -> None:
    template = workflow(role("a", "triage"))
    personas = [persona("first", "triage", model="x"), persona("second", "triage", model="y")]

    assert names(bind(template, personas, available=ALL, served_models={"y"})) == {"a": "second"}
    assert names(bind(template, personas, available=ALL, served_models={"z"})) == {"a": "first"}


def test_a_choice_that_would_leave_a_later_role_without_anybody_is_taken_back() -> None:
    template = workflow(role("a", "code_write"), role("b", "code_review", distinct_from=["a"]))
    personas = [persona("both", "code_write", "code_review"), persona("writer", "code_write")]

    assert names(bind(template, personas, available=ALL)) == {"a": "writer", "b": "both"}


def test_distinct_from_holds_in_whichever_order_the_roles_stand() -> None:
    template = workflow(role("b", "code_review", distinct_from=["a"]), role("a", "code_write"))
    personas = [persona("both", "code_write", "code_review"), persona("reviewer", "code_review")]

    assert names(bind(template, personas, available=ALL)) == {"b": "reviewer", "a": "both"}


def test_too_few_personas_for_distinct_roles_are_told_with_the_roles() -> None:
    template = workflow(role("a", "code_write"), role("b", "code_review", distinct_from=["a"]))

    with pytest.raises(DevflowError) as caught:
        bind(template, [persona("both", "code_write", "code_review")], available=ALL)

    assert caught.value.code == "binding_unsatisfied"
    assert "role b (both) needs another persona than a (both)" in caught.value.message


def test_an_unsatisfied_role_says_what_each_persona_lacks() -> None:
    template = workflow(role("a", "code_write", "test_run"))

    with pytest.raises(DevflowError) as caught:
        bind(template, [persona("one", "triage"), persona("two", "code_write")], available=ALL)

    assert caught.value.code == "binding_unsatisfied"
    assert "role a needs code_write, test_run" in caught.value.message
    assert "one lacks code_write, test_run" in caught.value.message
    assert "two lacks test_run" in caught.value.message


def test_a_missing_backend_says_why_and_what_to_do() -> None:
    template = workflow(role("a", "triage"))

    with pytest.raises(DevflowError) as caught:
        bind(template, [persona("one", "triage")], available={"openai": "no OPENAI_API_KEY is set"})

    assert caught.value.code == "binding_unsatisfied"
    assert "no OPENAI_API_KEY is set" in caught.value.recovery_hint


def test_what_was_typed_beats_the_configuration_and_the_configuration_beats_preference() -> None:
    template = workflow(role("a", "triage"))
    personas = [persona(name, "triage") for name in ("one", "two", "three")]

    by_default = bind(template, personas, available=ALL, defaults={"a": "two", "role_of_another_workflow": "x"})
    typed = bind(template, personas, available=ALL, defaults={"a": "two"}, overrides={"a": "three"})

    assert (names(by_default), names(typed)) == ({"a": "two"}, {"a": "three"})


@pytest.mark.parametrize(
    ("overrides", "code", "text"),
    [
        ({"a": "onne"}, "persona_not_found", 'did you mean "one"?'),
        ({"b": "one"}, "binding_unsatisfied", "workflow w has no role 'b'; its roles: a"),
        ({"a": "weak"}, "binding_unsatisfied", "weak lacks triage"),
    ],
)
def test_an_override_that_cannot_be_is_refused(overrides: dict[str, str], code: str, text: str) -> None:
    personas = [persona("one", "triage"), persona("weak", "docs_write")]

    with pytest.raises(DevflowError) as caught:
        bind(workflow(role("a", "triage")), personas, available=ALL, overrides=overrides)

    assert caught.value.code == code
    assert text in caught.value.message


def test_a_persona_that_asks_is_not_used_before_somebody_agrees_to_just_this_version() -> None:
    asking = persona("dear", "triage", consent=Consent(reasons=(ConsentReason.COST,), text="Ten dollars a run."))
    changed = asking.model_copy(update={"prompt": "Work harder."})
    template = workflow(role("a", "triage"))

    with pytest.raises(DevflowError) as caught:
        bind(template, [asking], available=ALL, consents={content_hash(changed)})

    assert caught.value.code == "consent_required"
    assert "persona dear asks for consent (cost) - Ten dollars a run." in caught.value.message
    assert "`devflow consent grant dear`" in caught.value.recovery_hint
    assert names(bind(template, [asking], available=ALL, consents={content_hash(asking)})) == {"a": "dear"}


def test_the_model_override_reaches_models_and_leaves_recordings_alone() -> None:
    template = workflow(role("a", "triage"), role("b", "docs_write"))
    personas = [persona("one", "triage"), persona("tape", "docs_write", backend="replay", model="recorded")]

    bindings = bind(template, personas, available=ALL, model="other")

    assert [one.model for one in bindings] == ["other", "recorded"]


def test_a_binding_carries_the_hash_of_its_persona_and_of_itself() -> None:
    one = persona("one", "triage")
    template = workflow(role("a", "triage"))

    first, again = (bind(template, [one], available=ALL)[0] for _ in range(2))
    other = bind(template, [one], available=ALL, model="other")[0]

    assert first == again
    assert first.persona_hash == content_hash(one) == other.persona_hash
    assert first.binding_hash != other.binding_hash


@pytest.mark.parametrize("backend", ["openai", "replay"])
@pytest.mark.parametrize("name", ["development", "bugfix", "docs"])
def test_the_built_in_workflows_bind_with_a_model_alone_and_with_a_cassette_alone(name: str, backend: str) -> None:
    catalog = Catalog()
    template = catalog.workflow(name)

    bound = {one.role: one for one in bind(template, catalog.personas(), available={backend: True})}

    assert set(bound) == {one.id for one in template.roles}
    assert {one.backend for one in bound.values()} == {backend}
    for one in template.roles:
        assert all(bound[one.id].persona_name != bound[other].persona_name for other in one.distinct_from)
