"""Searches files for a regular expression; runs inside the sandbox, passed as program text by engine.agents.search.

There an expression that never ends only costs its own time limit, and no symbolic link leads out. Lines of
`path:number:text` go to standard output.
"""

import os
import re
import sys

FILE_LIMIT = 4 << 20
LINE_LIMIT = 300
SKIPPED = {".git", "node_modules", "__pycache__", ".venv"}


def main(pattern: str, start: str, names: str, most: int) -> int:
    """Search `start` (a file or folder); exit code 2 is a mistake in the expression, 3 more than `most` hits."""
    try:
        wanted = re.compile(pattern)
        named = re.compile(names)
    except re.error as error:
        sys.stdout.write(f"not a regular expression: {error}")
        return 2
    hits = 0
    for path in _files(start):
        shown = path[2:] if path.startswith("./") else path
        if not named.fullmatch(shown):
            continue
        for number, line in enumerate(_lines(path), 1):
            if wanted.search(line):
                hits += 1
                if hits > most:
                    return 3
                sys.stdout.write(f"{shown}:{number}:{line[:LINE_LIMIT]}\n")
                sys.stdout.flush()
    return 0


def _files(start: str) -> list[str]:
    if os.path.isfile(start):  # noqa: PTH113
        return [start]
    found: list[str] = []
    for folder, folders, files in os.walk(start):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        found.extend(f"{folder}/{name}" for name in sorted(files))
    return found


def _lines(path: str) -> list[str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(FILE_LIMIT)
    except OSError:
        return []
    if b"\0" in data[:8192]:
        return []
    return data.decode(errors="replace").splitlines()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
