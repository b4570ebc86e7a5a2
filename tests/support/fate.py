"""Deaths within this process: from a chosen failure point on nothing passes any more, and what was under way is gone.

A process need not be started for each, so that every point of a piece of work can be tried. Only what the task itself
passes counts, and not what it hands to threads.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine import failpoints


class Death(BaseException):
    """The process is no more: from now on nothing passes any point."""


@dataclass
class Fate:
    """Which point is the last one that is passed, by this task alone; `passed` lists those so far."""

    at: int | None = None
    task: Any = field(default_factory=asyncio.current_task)
    dead: bool = False
    passed: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        """Stand in for the place where a process would be killed."""
        if asyncio.current_task() is not self.task:
            return
        if self.dead or len(self.passed) == self.at:
            self.dead = True
            raise Death(name)
        self.passed.append(name)


@contextmanager
def fate(at: int | None = None) -> Iterator[Fate]:
    """Let the process die at a point, counted from 0; None: it lives."""
    what = Fate(at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "_pass", what)
        yield what
