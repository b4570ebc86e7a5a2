"""The documentation says what the code says: codes, commands, variables, generated tables, links, make targets."""

import re
from pathlib import Path

import pytest

from app.reference.__main__ import names_in, refreshed
from app.reference.meanings import MEANINGS
from app.reference.tables import SECTIONS, command_list, variables
from engine.builtin import builtin_names
from engine.catalog import load_workflow
from engine.domain.config import RepositoryConfig
from engine.domain.errors import ERRORS
from engine.domain.events import EVENT_TYPES
from engine.domain.files import load_model

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def docs(name: str) -> str:
    """Return a page below docs/."""
    return (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_are_as_the_code_has_them(page: Path) -> None:
    text = page.read_text()

    assert refreshed(text) == text, "run `make docs`"


def test_every_generated_table_stands_in_one_page() -> None:
    found = [name for page in PAGES for name in names_in(page.read_text())]

    assert sorted(found) == sorted(SECTIONS)


def test_no_meaning_is_left_over_from_a_key_that_is_gone() -> None:
    shown = "".join(table() for table in SECTIONS.values())

    gone = [f"{model}.{key}" for model, keys in MEANINGS.items() for key, text in keys.items() if text not in shown]
    assert gone == []


def test_every_error_code_is_documented() -> None:
    assert [code for code in ERRORS if f"| `{code}` |" not in docs("errors.md")] == []


def test_every_command_is_documented() -> None:
    page = docs("cli.md")

    assert [name for name, _ in command_list() if not re.search(rf"^### `devflow {name}[ `]", page, re.MULTILINE)] == []


def test_every_environment_variable_that_the_code_reads_is_documented() -> None:
    code = "".join(path.read_text() for folder in ("app", "engine") for path in (ROOT / folder).rglob("*.py"))
    read = {name for name in re.findall(r"\b(?:DEVFLOW|OPENAI)_[A-Z_]+[A-Z]\b", code) if name != "DEVFLOW_CANARY"}

    assert read <= set(variables())
    assert [name for name in variables() if f"| `{name}` |" not in docs("operations.md")] == []


def test_every_event_type_is_documented() -> None:
    assert [name for name in EVENT_TYPES if f"| `{name}` |" not in docs("concepts.md")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)

    assert broken == []


def test_the_make_targets_that_the_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    words = re.compile(r"(?:^|`)make ((?:[a-z]+ ?)+)(?=`|$| *#| PYTEST_ARGS)", re.MULTILINE)
    named = {name for page in PAGES for match in words.findall(page.read_text()) for name in match.split()}

    assert {"demo", "test"} <= named
    assert named <= targets


def test_the_readme_opens_with_the_two_commands() -> None:
    opening = (ROOT / "README.md").read_text().splitlines()[:5]

    assert [line.split("#")[0].strip() for line in opening if line.startswith("make")] == ["make demo", "make test"]


def test_the_files_of_the_modules_that_the_pages_name_exist() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"`((?:app|engine|tests|docs|\.ci)/[\w./-]+)`", page.read_text())
    }

    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_examples_of_files_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", docs("workflows.md"), re.DOTALL)
    workflow = next(block for block in blocks if block.startswith("name: "))
    configuration = next(block for block in blocks if block.startswith("checks:"))

    load_workflow(".devflow/workflows/quick.yaml", workflow.encode())
    for example in (configuration, *re.findall(r"```yaml\n(.*?)```", docs("github-app.md"), re.DOTALL)):
        load_model(RepositoryConfig, example.encode(), ".github/devflow.yml")


def test_every_builtin_workflow_persona_and_schema_is_documented() -> None:
    page = docs("workflows.md")
    names = [Path(name).stem for name in builtin_names() if name.startswith(("workflows/", "personas/"))]

    assert [name for name in names if f"`{name}" not in page] == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
