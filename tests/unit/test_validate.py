"""`devflow validate`: every mistake of every file at once, in the order in which a person reads them."""

import json
from pathlib import Path

import pytest

from engine.builtin import read_builtin
from engine.catalog import builtin_files
from engine.domain.errors import DevflowError
from engine.validate import read_tree, validate_files

WORKFLOW = read_builtin("workflows/development.yaml").decode()
SCHEMA = read_builtin("schemas/dev/spec.json").decode()


def told(files: dict[str, str]) -> list[str]:
    return [str(problem) for problem in validate_files({name: text.encode() for name, text in files.items()})]


def test_the_built_in_files_are_right() -> None:
    assert validate_files(builtin_files()) == []
    assert validate_files({"prices.yaml": read_builtin("prices.yaml")}) == []
    assert validate_files({}) == []


def test_mistakes_of_several_files_are_told_together_by_file_and_line() -> None:
    lines = told(
        {
            ".github/devflow.yml": "workflow: developmnt\ncommands: prefixed\npersonas: {implementer: implementor}\n",
            ".devflow/workflows/own.yaml": "name: own\nversion: soon\n",
        }
    )

    assert [line.split(": found")[0] for line in lines] == [
        ".devflow/workflows/own.yaml:1: roles",
        ".devflow/workflows/own.yaml:1: phases",
        ".devflow/workflows/own.yaml:2: version",
        ".github/devflow.yml:1: workflow",
        ".github/devflow.yml:3: personas.implementer",
    ]
    assert 'did you mean "development"?' in lines[3]
    assert 'did you mean "implementer"?' in lines[4]


def test_a_name_of_a_broken_file_is_not_told_as_unknown_as_well() -> None:
    lines = told({".github/devflow.yml": "workflow: own\n", ".devflow/workflows/own.yaml": "name: own\n"})

    assert all(line.startswith(".devflow/workflows/own.yaml") for line in lines)


def test_a_workflow_is_compared_with_the_schemas_and_checks_that_there_are() -> None:
    own = WORKFLOW.replace("schema: dev/plan@1", "schema: dev/plann@1").replace("use: all", "use: unti", 1)
    lines = told({".devflow/workflows/development.yaml": own, ".github/devflow.yml": "checks: {unit: {run: pytest}}\n"})

    assert len(lines) == 2
    assert 'phases[1].expected_artifact.schema: found "dev/plann@1"' in lines[0]
    assert 'did you mean "dev/plan@1"?' in lines[0]
    assert 'phases[2].checks[0].use: found "unti", allowed: all, unit (did you mean "unit"?)' in lines[1]


def test_a_schema_is_told_with_the_line_of_the_fault() -> None:
    lines = SCHEMA.splitlines()
    number = next(index for index, line in enumerate(lines) if '"uniqueItems": true' in line)
    broken = "\n".join([*lines[:number], lines[number].replace("true", '"yes"'), *lines[number + 1 :]])

    (line,) = told({".devflow/schemas/dev/spec.json": broken})

    assert line.startswith(f".devflow/schemas/dev/spec.json:{number + 1}: properties.requirements.uniqueItems: found")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{\n "a": \n}', ".devflow/schemas/dev/spec.json:3: found no JSON"),
        (
            json.dumps(json.loads(SCHEMA) | {"$id": "dev/plan@1"}, indent=1),
            '$id: found "dev/plan@1", allowed: dev/spec@VERSION',
        ),
        ("[]", "found a JSON array"),
        ('{\t"$id": 3}', "$id: found 3"),
    ],
)
def test_a_schema_that_is_no_schema_or_no_json_is_told(text: str, expected: str) -> None:
    lines = told({".devflow/schemas/dev/spec.json": text})

    assert any(expected in line for line in lines), lines


@pytest.mark.parametrize(
    "path", [".github/devflow.yaml", ".devflow/workflows/x.yml", ".devflow/workflow/x.yaml", ".devflow/schemas/x.json"]
)
def test_a_file_that_nothing_would_read_is_told(path: str) -> None:
    (line,) = told({path: "{}"})

    assert line.startswith(f"{path}:1: found a file that nothing reads")


def test_what_the_engine_wrote_and_what_is_no_configuration_is_left_alone() -> None:
    assert told({".devflow/runs/x/spec.json": "{", ".devflow/README.md": "x", ".github/workflows/ci.yml": "["}) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [("phases: []\n", "roles"), ("prompt: x\n", "capabilities"), ("models: 3\n", "models"), ("chekcs: {}\n", "chekcs")],
)
def test_a_single_file_elsewhere_is_taken_for_what_its_keys_say(text: str, where: str) -> None:
    lines = told({"draft.yaml": text})

    assert any(f": {where}: found" in line for line in lines), lines


def test_a_folder_is_read_with_its_devflow_files_only(tmp_path: Path) -> None:
    for name in (
        ".devflow/workflows/a.yaml",
        ".devflow/runs/r/spec.json",
        ".github/devflow.yml",
        ".github/x.yml",
        "a.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".devflow/workflows/link.yaml").symlink_to("/etc/passwd")

    files = read_tree(tmp_path)

    assert files == {".devflow/workflows/a.yaml": b"x", ".github/devflow.yml": b"x"}
    assert read_tree(tmp_path / ".devflow/workflows") == files
    assert read_tree(tmp_path / ".devflow/workflows/a.yaml") == {".devflow/workflows/a.yaml": b"x"}
    assert read_tree(tmp_path / "a.py") == {"a.py": b"x"}


def test_a_path_with_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DevflowError, match="there is no file or folder"):
        read_tree(tmp_path / "nothing")
