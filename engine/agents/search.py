"""The two tools that look through many files: what they were asked becomes a bounded answer."""

import re
from pathlib import Path

from engine.agents.base import ToolResult
from engine.workspace import files
from engine.workspace.sandbox import Command, Sandbox

INSIDE = Path(__file__).parent / "search_inside.py"
OUTPUT_LIMIT = 128 * 1024
MOST_HITS = 200
MOST_FILES = 1000
WALKED = 100_000
MOST_STARS = 8


def glob_expression(glob: str) -> str:
    """Return the regular expression of a glob: `**/` is any folders, `*` and `?` stay within one component.

    Raises `ValueError` for a glob with so many stars that matching could take for ever.
    """
    if glob.count("*") > MOST_STARS:
        raise ValueError(f"at most {MOST_STARS} stars")
    if "/" not in glob:
        glob = f"**/{glob}"
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(pieces.get(piece) or re.escape(piece) for piece in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", glob))


def list_files(worktree: Path, path: str, glob: str | None) -> ToolResult:
    """List the files below `path`, by path; raises `files.UnsafePath`, `OSError`, `ValueError`."""
    wanted = re.compile(glob_expression(glob), re.DOTALL) if glob else None
    entries = files.walk(worktree, path, limit=WALKED)
    shown = [entry for entry in entries if wanted is None or wanted.fullmatch(entry.path)]
    lines = [entry.path if entry.kind == "file" else f"{entry.path} ({entry.kind})" for entry in shown[:MOST_FILES]]
    if len(shown) > MOST_FILES or len(entries) == WALKED:
        lines.append(f"[only the first {len(lines)} files; name a folder or a glob for the others]")
    return ToolResult("\n".join(lines) or "no files")


async def search_files(
    sandbox: Sandbox, worktree: Path, pattern: str, path: str, glob: str | None, seconds: float
) -> ToolResult:
    """Search in the sandbox for at most `seconds`; raises `files.UnsafePath`, `ValueError`, `sandbox_unavailable`."""
    start = "/".join((".", *files.parts(path)))
    names = glob_expression(glob) if glob else r"(?s:.*)"
    argv = [sandbox.tools.python, "-I", "-S", "-c", INSIDE.read_text(), pattern, start, names, str(MOST_HITS)]
    result = await sandbox.run(worktree, Command(argv, timeout_seconds=seconds, output_limit=OUTPUT_LIMIT))
    if result.exit_code == 0:
        return ToolResult(result.output or "no match")
    if result.exit_code == 3:
        return ToolResult(f"{result.output}[more than {MOST_HITS} hits; narrow the search]")
    if result.exit_code == 2:
        return ToolResult(result.output, ok=False)
    if result.timed_out:
        return ToolResult(
            f"{result.output}[stopped after {seconds:g} s; use a simpler expression or a smaller folder]",
            ok=False,
        )
    return ToolResult(f"the search failed: {result.output[-500:]}", ok=False)
