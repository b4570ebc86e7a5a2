"""Persona files, and the twelve that come with the engine."""

import pytest

from engine.catalog import Catalog
from engine.domain.canonical import canonical_body, content_hash
from engine.domain.files import load_model
from engine.domain.persona import Capability, ConsentReason, Persona, ToolName
from engine.domain.yaml_lines import FilesInvalid

GOOD = "name: p\nversion: 1\nbackend: openai\nmodel: m\nprompt: Work.\ncapabilities: [triage]\n"


def load(text: str) -> Persona:
    return load_model(Persona, text.encode(), "p.yaml")[0]


def test_a_persona_that_names_no_tools_gets_all_of_them() -> None:
    assert load(GOOD).tools == tuple(ToolName)


def test_consent_may_be_a_yes_or_reasons_with_a_text() -> None:
    assert load(GOOD + "consent: false\n").consent is None
    plain = load(GOOD + "consent: true\n").consent
    full = load(GOOD + "consent: {reasons: [cost], text: Costs a lot.}\n").consent

    assert plain is not None
    assert plain.reasons == tuple(ConsentReason)
    assert full is not None
    assert (full.reasons, full.text) == ((ConsentReason.COST,), "Costs a lot.")


def test_a_stored_persona_reads_back_under_the_same_hash() -> None:
    persona = load(GOOD + "consent: {reasons: [cost], text: Costs a lot.}\n")

    again = Persona.model_validate_json(canonical_body(persona))

    assert again == persona
    assert content_hash(again) == content_hash(persona)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("openai", "opnai"), 'p.yaml:3: backend: found "opnai", allowed: openai, command, replay'),
        (GOOD.replace("Work.", '" "'), "p.yaml:5: prompt: found"),
        (GOOD.replace("[triage]", "[]"), "p.yaml:6: capabilities: found [], allowed: a list of at least 1"),
        (GOOD.replace("[triage]", "[triage, triage]"), "capabilities[1]: found"),
        (GOOD + "tools: [read_file]\n", "p.yaml:7: tools: found no way to deliver an artifact"),
        (GOOD + "tools: [rm]\n", "p.yaml:7: tools[0]: found"),
        (GOOD + "limits: {max_turns: 0}\n", "p.yaml:7: limits.max_turns: found 0, allowed: integer 1..1000"),
        (GOOD + "consent: maybe\n", "allowed: true, false or {reasons, text}"),
        (GOOD + "consent: {reasons: [fun]}\n", "consent.reasons[0]: found"),
        (GOOD + "api_key: x\n", "p.yaml:7: api_key: found an unknown key"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(FilesInvalid) as caught:
        load(text)

    assert any(expected in str(problem) for problem in caught.value.problems), caught.value.message


def test_twelve_personas_are_built_in_over_several_models() -> None:
    personas = Catalog().personas()

    models = {persona.model for persona in personas if persona.backend == "openai"}
    assert len(personas) == 12
    assert len(models) >= 4
    assert all(5 <= len(persona.prompt.splitlines()) <= 25 for persona in personas)


def test_every_capability_is_covered_by_a_recorded_and_by_a_model_persona() -> None:
    personas = Catalog().personas()

    for backend in ("openai", "replay"):
        covered = {one for persona in personas if persona.backend == backend for one in persona.capabilities}
        assert covered == set(Capability)
