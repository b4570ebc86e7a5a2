"""What holds for every file of the project: no address of a package index, no path of one machine, small modules."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_MODULE = 400
# Declarations in a row, with nothing to split: the tables of the database.
LONG_BY_NATURE: dict[str, int] = {}


def tracked() -> list[Path]:
    """Return the project's files: what git tracks, or, in an unpacked archive, what lies here."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name]
    files = [ROOT / name for name in names] or [path for path in ROOT.rglob("*") if not _is_made(path)]
    return [path for path in files if path.is_file()]


def _is_made(path: Path) -> bool:
    return any(part in (".venv", ".demo", "__pycache__") or part.endswith("_cache") for part in path.parts)


FILES = tracked()
OURS = ("app", "demo", "engine")
MODULES = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in OURS]


def test_requirements_are_pinned_with_hashes_and_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        pinned = re.findall(r"^\w[^\n=]*==\S+", text, re.MULTILINE)
        assert "://" not in text
        assert not re.search(r"^\s*-(?!-hash)", text, re.MULTILINE), "an option of pip"
        assert len(pinned) == len(re.findall(r"^[^\s#]", text, re.MULTILINE))
        assert len(re.findall(r"==[^\n]*\\\n\s+--hash=sha256:", text)) == len(pinned)


def test_no_file_names_a_package_index() -> None:
    hosts = re.compile("|".join(["py" + "pi\\.", "python" + "hosted", "index" + "-url ?[=:]", "registry\\.npm" + "js"]))

    assert [str(path.relative_to(ROOT)) for path in FILES if hosts.search(_text(path))] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    # the home of somebody, a working folder, a version of Python somewhere
    places = re.compile(rf"/(?:home|Users)/[a-z]\w*/|/root/\.\w|{re.escape(str(ROOT))}/")
    allowed = {"tests/unit/test_repository.py"}

    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in FILES
        if str(path.relative_to(ROOT)) not in allowed and (match := places.search(_text(path)))
    ]
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_and_says_what_it_is_for(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    text = path.read_text()
    tree = ast.parse(text)

    assert len(text.splitlines()) <= LONGEST_MODULE
    if name.startswith("demo/sample/"):
        return
    assert ast.get_docstring(tree), "a module has a docstring"
    assert _without_docstring(tree) == []


def _without_docstring(tree: ast.Module) -> list[str]:
    """Return the public functions and classes at the top, and public methods, that have no docstring."""
    missing = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            missing.append(node.name)
        if isinstance(node, ast.ClassDef):
            missing += [
                f"{node.name}.{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                and not method.name.startswith("_")
                and not ast.get_docstring(method)
            ]
    return missing


def _text(path: Path) -> str:
    return path.read_text(errors="replace")
