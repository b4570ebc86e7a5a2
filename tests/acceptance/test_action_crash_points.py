"""A step of the Action may be killed at any point, and the next one goes on from what it has left.

Two points by default; DEVFLOW_CRASH_POINTS=all tries every single one that a conversation passes, each with a
conversation of its own.
"""

import fcntl
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.killed_steps import (
    CONVERSATION,
    MOST,
    Act,
    assert_whole,
    by_a_question,
    hold,
    passed,
    place,
    review,
)

ALL = os.environ.get("DEVFLOW_CRASH_POINTS") == "all"
Counts = dict[str, dict[str, int]]


@pytest.fixture
async def counted(tmp_path: Path, testrun_uid: str, tmp_path_factory: pytest.TempPathFactory) -> Counts:
    """How often each act's step passes each point, by one whole conversation for all of the tests."""
    kept = tmp_path_factory.getbasetemp().parent / f"points-{testrun_uid}.json"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ALL and not kept.exists():
            kept.write_text(json.dumps(await _count(tmp_path)))
    found: Counts = json.loads(kept.read_text()) if ALL else {}
    return found


async def _count(folder: Path) -> Counts:
    found: Counts = {}
    async with place(folder / "counted") as on:
        for act in CONVERSATION:
            act(on)
            log = on.steps.folder / act.__name__
            await passed(on, on.told(), DEVFLOW_FAILPOINT_LOG=str(log))
            found[act.__name__] = Counter(log.read_text().split())
    return found


def _points() -> list[tuple[Act, str]]:
    if not ALL:
        return [(review, "host_call.before#9"), (review, "git_push.before#7")]
    return [
        (act, f"{name}.{side}#{number}")
        for act in CONVERSATION
        for name, most in MOST.items()
        for number in range(1, most + 1)
        for side in ("before", "after")
    ]


@pytest.mark.parametrize(("act", "point"), _points())
async def test_a_step_may_be_killed_anywhere(act: Act, point: str, tmp_path: Path, counted: Counts) -> None:
    name, _, number = point.partition("#")
    # some of them are passed once a heartbeat, so no two conversations pass the same number
    if ALL and int(number) > 1.2 * counted[act.__name__].get(name, 0) + 1:
        pytest.skip("the step does not pass this point")
    async with place(tmp_path) as on:
        if await hold(on, {act: point}, by_a_question) == 0:
            pytest.skip("the step does not pass this point")
        await assert_whole(on)
