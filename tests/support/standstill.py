"""Agents that stand still in the middle of their work, as many as there are, until all are let go at once.

They wait for the end of a pipe, which costs nothing, however long it takes.
"""

import asyncio
import os
from pathlib import Path

from tests.support.cassettes import Json, call


class Standstill:
    """A place in a folder where agents wait."""

    def __init__(self, folder: Path) -> None:
        self._pipe = folder / "standstill"
        self._came = folder / "came"
        self._came.mkdir()
        os.mkfifo(self._pipe)

    @property
    def call(self) -> Json:
        """The agent's call that waits; once all have been let go, it does not any more."""
        return call("run_command", command=f"mktemp -p {self._came}; cat {self._pipe}")

    async def reached(self, agents: int, seconds: float = 120) -> None:
        """Wait until so many agents stand still."""
        async with asyncio.timeout(seconds):
            while len(list(self._came.iterdir())) < agents:
                await asyncio.sleep(0.05)

    def let_go(self) -> None:
        """Let all agents go on."""
        # both ends, so that it does not wait for a reader; whoever comes later finds no pipe
        end = os.open(self._pipe, os.O_RDWR)
        self._pipe.unlink()
        os.close(end)
