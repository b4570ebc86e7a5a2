"""Artifacts: what is read, what is refused and why, the published bytes, and text that stays text for people."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from engine.catalog import Catalog
from engine.domain.artifact import (
    MAX_ARTIFACT_BYTES,
    artifact_bytes,
    check_object,
    digest,
    parse_artifact,
    schema_errors,
    stamp,
    validate_artifact,
)
from engine.domain.artifact_markdown import render_markdown
from engine.domain.errors import DevflowError
from engine.domain.safe_text import fence, neutralise, strip_hidden

RUN = "01890000-0000-7000-8000-000000000001"
SPEC: dict[str, Any] = {
    "requirements": ["The sum of no numbers is 0."],
    "acceptance_criteria": ["total([]) returns 0"],
    "approach": "Start from 0.",
    "risks": [],
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def schema(name: str) -> dict[str, Any]:
    return Catalog().schema(f"dev/{name}@1")


def test_artifacts_of_equal_length_and_beginning_have_different_digests() -> None:
    first = b'{"a": "' + b"x" * 5000 + b'1"}'
    second = b'{"a": "' + b"x" * 5000 + b'2"}'

    assert len(first) == len(second)
    assert digest(first) != digest(second)


@given(st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=5))
def test_published_bytes_read_back_as_the_same_value_and_have_one_digest(value: dict[str, Any]) -> None:
    checked, errors = check_object(value)
    if errors:
        return
    assert checked is not None
    data = artifact_bytes(checked)

    again, _ = parse_artifact(data)
    turned = artifact_bytes(dict(reversed(checked.items())))

    assert again == checked
    assert digest(turned) == digest(data)
    assert data.endswith(b"}\n")


def test_published_bytes_are_sorted_indented_utf8() -> None:
    assert artifact_bytes({"b": "ä", "a": [1]}) == '{\n  "a": [\n    1\n  ],\n  "b": "ä"\n}\n'.encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff{}", "not UTF-8: byte 0xff at offset 0"),
        (b"{\n  oops", "not JSON: Expecting property name enclosed in double quotes at line 2, column 3"),
        (b"", "not JSON"),
        (b"[1]", "a JSON array; a JSON object is wanted"),
        (b"null", "a JSON null; a JSON object is wanted"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 1, "a": 2}', 'the key "a" twice in one object'),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "too many digits"),
        (b" " * (MAX_ARTIFACT_BYTES + 1), "at most 1048576"),
    ],
)
def test_bytes_that_are_no_artifact_are_an_error_with_a_reason_and_no_exception(data: bytes, message: str) -> None:
    artifact, errors = parse_artifact(data)

    assert artifact is None
    assert len(errors) == 1
    assert message in errors[0].message


def test_a_valid_artifact_has_no_errors_with_and_without_the_engines_stamp() -> None:
    assert validate_artifact(SPEC, schema("spec")) == []
    assert validate_artifact(stamp(SPEC, run_id=RUN, phase_key="spec"), schema("spec")) == []


def test_errors_are_the_first_five_by_path_whatever_the_order_of_the_keys() -> None:
    wrong = {
        "verdict": "fine",
        "findings": [{"severity": "awful", "file": "a", "line": 0, "message": ""}, {}, "x"],
        "surprise": 1,
    }

    errors = validate_artifact(wrong, schema("review"))
    turned = validate_artifact(dict(reversed(wrong.items())), schema("review"))

    assert errors == turned
    assert len(errors) == 5
    assert errors[0].path == "/"
    assert "surprise" in errors[0].message
    assert [error.path for error in errors[1:4]] == ["/findings/0/line", "/findings/0/message", "/findings/0/severity"]


def test_a_pointer_escapes_the_names_in_it_and_a_long_value_is_cut() -> None:
    strange = {"type": "object", "properties": {"a/b~c": {"type": "integer"}}}

    (error,) = validate_artifact({"a/b~c": "x" * 10_000}, strange)

    assert error.path == "/a~1b~0c"
    assert len(error.message) < 400
    assert "is not of type 'integer'" in error.message


def test_the_engines_stamp_replaces_what_an_agent_claims() -> None:
    claimed = {"run_id": "mine", "phase_key": "x", "checks": [{"name": "all", "met": True}], "verdict": "passed"}
    seen = [{"name": "pytest", "exit_code": 1}]

    stamped = stamp(claimed, run_id=RUN, phase_key="verify", checks=seen)
    unchecked = stamp(claimed, run_id=RUN, phase_key="verify")

    assert stamped == {"run_id": RUN, "phase_key": "verify", "checks": seen, "verdict": "passed"}
    assert "checks" not in unchecked
    assert claimed["run_id"] == "mine"


def test_a_review_that_asks_for_changes_has_to_name_one() -> None:
    assert validate_artifact({"verdict": "approved", "findings": []}, schema("review")) == []
    assert validate_artifact({"verdict": "changes_requested", "findings": []}, schema("review"))


def test_a_verification_cannot_pass_with_a_criterion_that_is_not_met() -> None:
    def verification(verdict: str) -> dict[str, Any]:
        criterion = {"text": "It adds.", "result": "not_met", "evidence": "It does not."}
        return {"verdict": verdict, "criteria": [criterion], "unresolved": []}

    assert validate_artifact(verification("failed"), schema("verify")) == []
    assert [error.path for error in validate_artifact(verification("passed"), schema("verify"))] == [
        "/criteria/0/result"
    ]


def test_a_reference_out_of_the_schema_is_never_fetched() -> None:
    remote = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}}

    assert [error.path for error in schema_errors(remote)] == ["/properties/a/$ref"]
    with pytest.raises(DevflowError) as caught:
        validate_artifact({"a": 1}, remote)
    assert caught.value.code == "config_invalid"


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ([], "a JSON array"),
        ({"type": "objekt"}, "objekt"),
        ({"properties": {"a": {"pattern": "("}}}, "regex"),
        ({"$ref": "#/$defs/nothing"}, "does not name a part"),
        ({"additionalProperties": False, "properties": {}}, "no room for run_id, phase_key"),
    ],
)
def test_a_document_that_cannot_serve_as_a_schema_says_why(broken: Any, text: str) -> None:
    errors = schema_errors(broken)

    assert errors
    assert text in errors[0].message


def test_a_schema_that_never_ends_is_the_schemas_fault_and_not_the_artifacts() -> None:
    with pytest.raises(DevflowError) as caught:
        validate_artifact({}, {"$ref": "#"})

    assert caught.value.code == "config_invalid"


def shown(markdown: str) -> str:
    """Return the text that a Markdown renderer shows, and fail if it made anything but paragraphs of it."""
    tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(markdown)
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}, tokens
    inner = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inner} <= {"text", "text_special", "softbreak"}, inner
    lines = "".join("\n" if child.type == "softbreak" else child.content for child in inner)
    return lines.replace("\u200b", "")


@given(st.text(alphabet=st.sampled_from("a1 \n\t#*_`<>!-+=.)([]|~&;@:/\\$\u200b\u202e"), max_size=60))
def test_neutral_text_shows_as_itself_and_as_nothing_else(text: str) -> None:
    assert re.sub(r"\s", "", shown(neutralise(text))) == re.sub(r"\s", "", strip_hidden(text))


@given(st.text(max_size=80))
def test_neutral_text_never_mentions_refers_or_forges_a_comment(text: str) -> None:
    markdown = neutralise(text + "@someone closes #12 GH-7 https://example.com/1 www.example.com <!-- devflow -->")

    assert not re.search(r"@\w", markdown)
    assert not re.search(r"#\d", markdown)
    assert not re.search(r"(?i)\bgh-\d", markdown)
    assert "://" not in markdown
    assert "www." not in markdown
    assert "<!--" not in markdown


@given(st.text(alphabet=st.sampled_from("`~a\n<!-> @"), max_size=60))
def test_a_fence_cannot_be_closed_from_inside(text: str) -> None:
    block = fence(text)

    tokens = MarkdownIt("commonmark").parse(block)

    assert [token.type for token in tokens] == ["fence"]
    assert "<!--" not in block


def test_markdown_follows_the_schemas_order_and_titles() -> None:
    markdown = render_markdown(stamp(SPEC, run_id=RUN, phase_key="spec"), schema("spec"))

    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert headings == ["# Specification", "## Requirements", "## Acceptance criteria", "## Approach"]
    assert "- The sum of no numbers is 0." in markdown
    assert RUN in markdown
    assert "{" not in markdown


def test_findings_are_a_table_that_their_text_cannot_break() -> None:
    finding = {"severity": "major", "file": "a|b.py", "line": 3, "message": "Uses | and @admin and <b>x</b>"}

    markdown = render_markdown({"verdict": "changes_requested", "findings": [finding]}, schema("review"))

    html = MarkdownIt("commonmark").enable("table").render(markdown)
    row = re.findall(r"<td>(.*?)</td>", html)
    assert [cell.replace("\u200b", "") for cell in row] == [
        "major",
        "a|b.py",
        "3",
        "Uses | and @admin and &lt;b&gt;x&lt;/b&gt;",
    ]
    assert "@admin" not in markdown


def test_the_output_of_a_check_is_a_code_block_of_its_own() -> None:
    check = {
        "name": "pytest",
        "command": "pytest -q",
        "exit_code": 0,
        "expected": "pass",
        "met": True,
        "seconds": 1.25,
        "output_tail": "```\n1 passed <!-- devflow:x -->",
    }
    artifact = {"verdict": "passed", "criteria": [], "unresolved": ["Look at #3"], "checks": [check]}

    markdown = render_markdown(artifact, schema("verify"))

    fences = [token for token in MarkdownIt("commonmark").enable("table").parse(markdown) if token.type == "fence"]
    assert [token.content.replace("\u200b", "") for token in fences] == ["```\n1 passed <!-- devflow:x -->\n"]
    assert "<!--" not in markdown
    assert "| pytest | pytest -q | 0 | pass | yes | 1.25 |" in markdown.replace("\\", "")


@given(st.dictionaries(st.sampled_from(["summary", "steps", "x", "checks"]), JSON_VALUES, max_size=4))
def test_any_object_can_be_rendered(value: dict[str, Any]) -> None:
    markdown = render_markdown(value, schema("plan"))

    assert markdown.startswith("# Plan\n")
    assert not re.search(r"@\w", markdown)


def test_the_report_schema_has_the_fields_of_the_design() -> None:
    report = Catalog().schema("devflow/report@1")

    wanted = (
        "run_id template_hash status phases artifacts approvals checks cost sandbox events unresolved error ended_at"
    )
    assert set(report["required"]) == set(wanted.split())
    json.dumps(report)
