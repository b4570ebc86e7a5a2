"""The floors of the house: each module uses only its own floor and those below, and nothing goes in a circle."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From the ground up. A name stands for a module or for everything in a package; the longest one that fits holds.
FLOORS = (
    {"engine.domain"},
    {
        "engine.failpoints",
        "engine.settings",
        "engine.ports",
        "engine.last_writes",
        "engine.builtin",
        "engine.agents.base",
    },
    {"engine.atomic_file", "engine.catalog", "engine.validate"},
    {"engine.store", "engine.workspace"},
    {
        "engine.services",
        "engine.metering",
        "engine.doorbells",
        "engine.dispatch",
        "engine.presence",
        "engine.consents",
        "engine.views",
        "engine.lifecycle",
    },
    {"engine.agents", "engine.gates", "engine.worker", "engine.attendant"},
    {"engine.models", "engine.runner", "engine.documents", "engine.prepare", "engine.start"},
    {"engine.control", "engine.hosted", "engine.retry", "engine.reading"},
    {"engine.frozen"},
    {"engine.facade", "engine.health"},
    {"app"},
)
HOSTS = {"app", "demo", "fastapi", "starlette", "uvicorn", "github", "typer", "rich", "pydantic_settings", "tests"}
# What pure code may use: values in, values out.
PURE = {
    "collections", "dataclasses", "datetime", "decimal", "difflib", "enum", "errno", "functools", "hashlib",
    "itertools", "json", "jsonschema", "math", "pydantic", "pydantic_core", "re", "referencing", "string", "textwrap",
    "typing", "unicodedata", "uuid", "yaml",
}  # fmt: skip
IMPURE = {"engine/domain/ids.py": {"os", "time"}}  # an id is made of the clock and of random bytes


@cache
def imports() -> dict[str, frozenset[str]]:
    """What each module of engine and app imports while the program runs, by module name."""
    found = {}
    for top in ("engine", "app"):
        for path in sorted((ROOT / top).rglob("*.py")):
            relative = path.relative_to(ROOT)
            name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
            found[name] = frozenset(_imported(ast.parse(path.read_text())))
    return {name: frozenset(_modules(wanted, set(found))) for name, wanted in found.items()}


def _imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            found |= _imported(node)
    return found


def _modules(wanted: frozenset[str], known: set[str]) -> set[str]:
    """Cut the names of what is imported from a module of ours down to the module."""
    return {
        next((part for part in (name, name.rpartition(".")[0]) if part in known), name)
        if name.partition(".")[0] in ("engine", "app")
        else name
        for name in wanted
    }


def _floor(module: str) -> int:
    fitting = [
        (len(name), floor)
        for floor, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    assert fitting, f"say in FLOORS where {module} stands"
    return max(fitting)[1]


def test_the_engine_knows_nothing_of_those_who_use_it() -> None:
    found = {
        (module, name)
        for module, wanted in imports().items()
        if module.partition(".")[0] == "engine"
        for name in wanted
        if name.partition(".")[0] in HOSTS
    }
    assert found == set()


def test_every_module_uses_only_its_own_floor_and_those_below() -> None:
    found = {
        f"{module} (floor {_floor(module)}) uses {name} (floor {_floor(name)})"
        for module, wanted in imports().items()
        for name in wanted
        if name.startswith(("engine.", "app.")) and _floor(name) > _floor(module)
    }
    assert found == set()


def test_no_module_needs_itself_in_a_circle() -> None:
    left = {module: {name for name in wanted if name in imports()} for module, wanted in imports().items()}
    while free := [module for module, wanted in left.items() if not wanted & set(left)]:
        for module in free:
            del left[module]
    assert left == {}


@pytest.mark.parametrize("module", [name for name in imports() if name.startswith("engine.domain.")])
def test_the_domain_does_no_input_and_no_output(module: str) -> None:
    path = module.replace(".", "/") + ".py"
    tops = {name.partition(".")[0] for name in imports()[module] if not name.startswith("engine.domain")}
    assert tops - PURE - IMPURE.get(path, set()) == set()
    calls = {
        ast.unparse(node.func) for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Call)
    }
    assert calls & {"open", "print", "input", "datetime.now", "datetime.utcnow"} == set()
    assert not [
        name for name in imports()[module] if name.startswith("engine.") and not name.startswith("engine.domain")
    ]
