"""Dependencies have a step of their own: a run's `setup` commands, with network, before the first phase works.

They run once a worktree. What they leave there is remembered and never committed.
"""

import json

from engine.atomic_file import write_file
from engine.domain.canonical import canonical_json, sha256_hex
from engine.domain.errors import DevflowError
from engine.runner.context import RunContext
from engine.workspace.sandbox import Command
from engine.workspace.secrets import redact

SETUP_TIMEOUT_SECONDS = 1800
_OUTPUT_TAIL = 2000


async def run_setup(context: RunContext) -> list[str]:
    """Run the setup commands where this worktree has not seen them, and return the paths that they left.

    Raises `setup_failed` with the end of the failing command's output.
    """
    commands: list[str] = context.plan.options["setup"]
    if not commands:
        return []
    marker = context.worktree.path.parent / "setup.json"
    wanted = sha256_hex(canonical_json([context.worktree.token, *commands]).encode())
    if marker.exists():
        done = json.loads(marker.read_bytes())
        if done["key"] == wanted:
            return [str(path) for path in done["leftovers"]]
    before = set(await context.worktree.changed_paths(context.head_sha))
    for command in commands:
        outcome = await context.sandbox.run(
            context.worktree.path, Command(command, timeout_seconds=SETUP_TIMEOUT_SECONDS, network=True)
        )
        if outcome.timed_out or outcome.exit_code != 0:
            how = "ran out of time" if outcome.timed_out else f"ended with exit code {outcome.exit_code}"
            raise DevflowError("setup_failed", f"setup `{command}` {how}: {redact(outcome.output[-_OUTPUT_TAIL:])}")
    after = set(await context.worktree.changed_paths(context.head_sha))
    leftovers = sorted(after - before)
    write_file(marker, json.dumps({"key": wanted, "leftovers": leftovers}).encode())
    return leftovers
