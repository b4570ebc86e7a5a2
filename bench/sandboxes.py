"""What a sandbox adds to a command: `true`, confined, beside the same as a plain process."""

import asyncio
from pathlib import Path

from bench.stage import Figure, beside
from engine.domain.errors import DevflowError
from engine.workspace import sandbox

SAMPLES = 30


async def measure(folder: Path) -> list[Figure]:
    """Return the time of a command in each sandbox that works here."""
    tools = sandbox.Toolchain.detect()
    tree = folder / "tree"
    tree.mkdir()

    async def plain() -> None:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "true", cwd=tree)
        await process.wait()

    figures = []
    for mode in ("bwrap", "sandlock", "none"):
        try:
            chosen = await sandbox.choose(mode, tools)
        except DevflowError:
            continue

        async def confined(chosen: sandbox.Sandbox = chosen) -> None:
            await chosen.run(tree, sandbox.Command("true"))

        figures.append(await beside(f"`true` in {mode}", confined, plain, SAMPLES))
    return figures
