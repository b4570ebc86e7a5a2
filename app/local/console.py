"""The terminal: what is printed where, and lines typed by a person while the engine goes on.

Standard output carries the result (one JSON document with `--json`), standard error everything else.
"""

import asyncio
import json
import sys
import threading
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from engine.domain.errors import DevflowError

out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def plain(text: str) -> str:
    """Return `text` without control characters, so that untrusted text cannot steer the terminal."""
    return "".join(char if char in "\n\t" or char.isprintable() else "\ufffd" for char in text)


def say(text: str) -> None:
    """Print progress for a person."""
    err.print(plain(text))


def tell(text: str) -> None:
    """Print a result for a person."""
    out.print(plain(text))


def show_markdown(text: str, *, to: Console = err) -> None:
    """Print a document for a person."""
    to.print(Markdown(plain(text), hyperlinks=False))


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 call`, `2 calls`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def emit_json(document: dict[str, Any]) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


def emit_json_line(document: dict[str, Any]) -> None:
    """Print one line of JSON on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_error(error: DevflowError, *, as_json: bool) -> None:
    """Print an error: what was wrong and what to do."""
    if as_json:
        emit_json({"error": error.to_json()})
        return
    say(f"error: {error.message}")
    say(f"  code: {error.code}")
    say(f"  next: {error.recovery_hint}")


class Lines:
    """Lines of standard input, read in a thread of their own so that waiting for one stops nothing else."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._started = False

    async def next(self) -> str | None:
        """Return the next line without its end, or None at the end of input."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._read, daemon=True, name="stdin").start()
        return await self._queue.get()

    def _read(self) -> None:
        for line in sys.stdin:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, line.rstrip("\n"))
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)
