"""Named places at which a crash is interesting, so that tests can kill the process there.

Points stand before and after each SQL commit, git commit, push, model call, host call and file write outside a
worktree. `DEVFLOW_FAILPOINT=name#n` sends SIGKILL to this process before the n-th passing of point `name`;
`DEVFLOW_FAILPOINT_LOG=FILE` appends each point's name to FILE as it is passed. Without them a passing costs one test.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path


class Effect(StrEnum):
    """What is about to reach the world outside this process."""

    SQL_COMMIT = "sql_commit"
    GIT_COMMIT = "git_commit"
    GIT_PUSH = "git_push"
    MODEL_CALL = "model_call"
    HOST_CALL = "host_call"
    FILE_WRITE = "file_write"


_passed: Counter[str] = Counter()
_armed = os.environ.get("DEVFLOW_FAILPOINT", "")
_log = os.environ.get("DEVFLOW_FAILPOINT_LOG", "")


@contextmanager
def around(effect: Effect) -> Iterator[None]:
    """Pass `<effect>.before`, run the block, and pass `<effect>.after` if it did not raise."""
    _pass(f"{effect}.before")
    yield
    _pass(f"{effect}.after")


def _pass(name: str) -> None:
    if not (_armed or _log):
        return
    _passed[name] += 1
    if _armed == f"{name}#{_passed[name]}":
        os.kill(os.getpid(), signal.SIGKILL)
    if _log:
        with Path(_log).open("a") as log:
            log.write(name + "\n")
