"""Workflow files: what is read, what is refused and where, and what a template says about its phases."""

import pytest

from engine.catalog import Catalog
from engine.domain.canonical import canonical_body, canonical_json, content_hash, sha256_hex
from engine.domain.files import load_model
from engine.domain.workflow import Workflow, artifact_path_problem
from engine.domain.yaml_lines import FilesInvalid, Problem

GOOD = """\
name: small
version: 3
roles:
  - id: writer
    required_capabilities: [code_write]
  - id: reader
    required_capabilities: [code_review]
    distinct_from: [writer]
default_gates: [look]
phases:
  - key: one
    title: First
    risk: low
    role: reader
    instructions: Read.
    expected_artifact: {path: out/one.json, schema: dev/spec@1}
  - key: two
    title: Second
    risk: high
    role: writer
    instructions: Write.
    gates: []
    checks: [{use: all}]
    revise_from: one
  - key: three
    title: Third
    role: reader
    instructions: Review.
    expected_artifact: {path: out/three.json, schema: dev/review@1}
    gates: [{key: two_people, required_approvals: 2}, look]
    on_changes_requested: two
budget_usd: 2.5
"""


def load(text: str) -> Workflow:
    return load_model(Workflow, text.encode(), "w.yaml")[0]


def problems(text: str) -> list[Problem]:
    with pytest.raises(FilesInvalid) as caught:
        load(text)
    assert caught.value.code == "config_invalid"
    return list(caught.value.problems)


def test_a_phase_without_gates_of_its_own_has_the_default_ones() -> None:
    workflow = load(GOOD)

    assert [gate.key for gate in workflow.gates_of(workflow.phase("one"))] == ["look"]


def test_a_phase_of_high_risk_has_a_gate_even_where_it_lists_none() -> None:
    workflow = load(GOOD)

    assert len(workflow.gates_of(workflow.phase("two"))) == 1


def test_gates_keep_their_order_and_their_number_of_approvals() -> None:
    workflow = load(GOOD)

    gates = workflow.gates_of(workflow.phase("three"))

    assert [(gate.key, gate.required_approvals) for gate in gates] == [("two_people", 2), ("look", 1)]


def test_a_code_phase_is_one_whose_role_writes_code() -> None:
    workflow = load(GOOD)

    assert [workflow.is_code_phase(phase) for phase in workflow.phases] == [False, True, False]


def test_the_defaults_are_the_pinned_ones() -> None:
    phase = load(GOOD).phase("two")

    assert (phase.timeout_seconds, phase.max_revisions, phase.network, phase.allow_lock_files) == (300, 3, False, False)
    assert str(phase.checks[0].expect) == "pass"


def test_a_stored_body_reads_back_as_the_same_template_under_the_same_hash() -> None:
    workflow = load(GOOD)

    body = canonical_body(workflow)

    assert Workflow.model_validate_json(body) == workflow
    assert sha256_hex(body.encode()) == content_hash(workflow)


def test_the_hash_does_not_depend_on_how_the_file_is_written_but_on_every_value() -> None:
    same = GOOD.replace("default_gates: [look]", "default_gates:\n  - {required_approvals: 1, key: look} # a comment")
    other = GOOD.replace("instructions: Write.", "instructions: Write!")

    assert content_hash(load(same)) == content_hash(load(GOOD))
    assert content_hash(load(other)) != content_hash(load(GOOD))


def test_canonical_json_sorts_keys_and_refuses_what_json_cannot_say() -> None:
    assert canonical_json({"b": [1, "ä"], "a": None}) == '{"a":null,"b":[1,"ä"]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("risk: low", "risk: lo", 'w.yaml:13: phases[0].risk: found "lo", allowed: low, medium, high'),
        (
            "    checks: [{use: all}]",
            '    timeout_seconds: "30"',
            'w.yaml:23: phases[1].timeout_seconds: found "30", allowed: integer 1..86400',
        ),
        ("version: 3", "version: 3.5", "w.yaml:2: version: found 3.5, allowed: integer 1..1000000"),
        ("role: writer", "role: riter", 'w.yaml:20: phases[1].role: found "riter", allowed: writer, reader'),
        ("revise_from: one", "revise_from: three", "w.yaml:24: phases[1].revise_from: found"),
        ("on_changes_requested: two", "on_changes_requested: four", "this phase or an earlier one: one, two, three"),
        ("distinct_from: [writer]", "distinct_from: [reader]", 'w.yaml:8: roles[1].distinct_from[0]: found "reader"'),
        ("key: two", "key: one", 'w.yaml:17: phases[1].key: found "one" again, allowed: each once'),
        ("[look]", "[look, look]", 'w.yaml:9: default_gates[1]: found "look" again'),
        ("[look]", "[budget_exceeded]", "a name that the engine does not use itself"),
        ("budget_usd: 2.5", "budget_usd: 0", "w.yaml:32: budget_usd: found 0, allowed: US dollars above 0"),
        ("key: one", "key: One Two", "w.yaml:11: phases[0].key: found"),
        ("dev/spec@1", "spec", "allowed: a schema id such as dev/spec@1"),
    ],
)
def test_a_mistake_is_told_with_its_line_what_was_found_and_what_is_allowed(old: str, new: str, expected: str) -> None:
    found = problems(GOOD.replace(old, new, 1))

    assert any(expected in str(problem) for problem in found), found


def test_an_unknown_key_gets_the_known_one_that_is_close() -> None:
    found = problems(GOOD.replace("    revise_from: one", "    revise_form: one"))

    assert len(found) == 1
    assert str(found[0]).startswith("w.yaml:24: phases[1].revise_form: found an unknown key")
    assert found[0].allowed.endswith('(did you mean "revise_from"?)')


def test_every_mistake_of_a_file_is_told_at_once_in_the_order_of_lines() -> None:
    found = problems(GOOD.replace("version: 3", "version: x").replace("risk: low", "risk: no").replace("2.5", "much"))

    assert [problem.line for problem in found] == [2, 13, 32]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x.json",
        "a/../../x",
        "a//b",
        "./a",
        "a/",
        ".git/config",
        "a/.GIT/x",
        ".devflow/runs/x/spec.json",
        ".DevFlow/Runs/x",
        ".github/x.json",
        "a\\..\\b",
        "a\nb",
    ],
)
def test_an_artifact_path_that_leaves_the_worktree_or_is_guarded_is_refused(path: str) -> None:
    assert artifact_path_problem(path)


def test_a_refused_artifact_path_is_told_with_its_line() -> None:
    found = problems(GOOD.replace("out/one.json", "../one.json"))

    assert [(one.line, one.where) for one in found] == [(16, "phases[0].expected_artifact.path")]
    assert "leaves the worktree" in found[0].found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x [1]\nb: *x\n", "w.yaml:1: found an anchor or alias"),
        ("a: 1\na: 2\n", "w.yaml:2: a: found the key again (first in line 1)"),
        ("a:\n  - b: [\n", "w.yaml:3: found"),
        ("a: !!python/object:os.system x\n", "found the tag"),
        ("1: x\n", "w.yaml:1: found the key 1, allowed: text as key"),
        ("[" * 5000, "more than 40 levels"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("- a\n", "allowed: a mapping of keys to values"),
        ("a: " + "9" * 5000, "a number of ordinary size"),
        ("a: \x07\n", "the character U+0007"),
    ],
)
def test_yaml_that_is_a_trap_or_broken_is_a_problem_with_a_line(text: str, expected: str) -> None:
    assert any(expected in str(problem) for problem in problems(text))


def test_bytes_that_are_no_text_and_files_that_are_too_large_are_refused() -> None:
    with pytest.raises(FilesInvalid, match=r"w\.yaml:2: found byte 0xff"):
        load_model(Workflow, b"name: x\n\xff", "w.yaml")
    with pytest.raises(FilesInvalid, match="at most 262144 bytes"):
        load_model(Workflow, b"#" * 300_000, "w.yaml")


def test_words_that_old_yaml_reads_as_something_else_stay_text() -> None:
    workflow = load(GOOD.replace("title: First", "title: on").replace("title: Second", "title: 12:30"))

    assert [phase.title for phase in workflow.phases[:2]] == ["on", "12:30"]


def test_the_built_in_workflows_have_the_phases_and_gates_of_the_design() -> None:
    catalog = Catalog()
    development = catalog.workflow("development")
    bugfix = catalog.workflow("bugfix")

    gated = [phase.key for phase in development.phases if development.gates_of(phase)]
    assert [phase.key for phase in development.phases] == ["spec", "plan", "implement", "review", "verify"]
    assert gated == ["spec", "plan", "verify"]
    assert development.phase("implement").timeout_seconds == 3600
    assert development.phase("review").on_changes_requested == "implement"
    assert development.phase("verify").revise_from == "implement"
    assert "implementer" in development.role("reviewer").distinct_from
    assert [str(phase.checks[0].expect) for phase in bugfix.phases] == ["fail", "pass", "pass"]
