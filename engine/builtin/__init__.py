"""The files that come with the engine: workflows, personas, artifact schemas and prices, to use, copy or override."""

from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent


@cache
def read_builtin(name: str) -> bytes:
    """Return a built-in file by its path below this folder, e.g. `prices.yaml`; raises FileNotFoundError."""
    return (_ROOT / name).read_bytes()


@cache
def builtin_names() -> tuple[str, ...]:
    """Return the paths of all built-in files below this folder, sorted."""
    found = (path.relative_to(_ROOT).as_posix() for path in _ROOT.rglob("*") if path.suffix in (".yaml", ".json"))
    return tuple(sorted(found))
