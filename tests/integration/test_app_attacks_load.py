"""Two hosts on one database, many issues, and people who say contrary things at the same time."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import RowMapping, func, select

from app.hosting import Host
from engine.domain.states import RunState
from engine.store.host_tables import deliveries, projections
from engine.store.tables import runs, workers
from tests.github_double import Issue
from tests.support.conversation import conversation
from tests.support.stage import Stage

ISSUES = 4
PATIENCE = 400.0
TERMINAL = {"completed", "failed", "aborted"}


def _acts(play: Stage, issue: Issue) -> list[Callable[[], object]]:
    """Return what people may do to an issue."""
    by = play.ada
    return [
        lambda: issue.comment(by, "/approve"),
        lambda: issue.comment(by, "/abort\n/retry"),
        lambda: issue.comment(by, "/pause\n/resume"),
        lambda: issue.comment(by, "/revise more of it"),
        lambda: issue.comment(play.outsider, "/approve"),
        lambda: (issue.close(by), issue.reopen(by)),
        lambda: (issue.unlabel(by, "devflow"), issue.label(by, "devflow")) if "devflow" in issue.labels else None,
        lambda: [play.github.redeliver(one, new_guid=True) for one in play.github.deliveries[-3:]],
    ]


async def _late(play: Stage) -> list[RowMapping]:
    async with play.database.read() as tx:
        return await tx.all(select(projections).where(projections.c.dirty))


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_hosts_come_to_rest_whatever_people_say_at_once(tmp_path: Path, database_url: str, seed: int) -> None:
    dice = random.Random(seed)
    failing = ("run_in_flight", "is being worked on")
    options = {"abort_on_unlabel": True, "settings": {"max_concurrent_runs_per_repository": 4}}
    async with conversation(tmp_path, database_url, failing=failing, **options) as play:
        settings = replace(play.host.engine.settings, data_dir=tmp_path / "data" / "second")
        async with Host.open(settings, play.host.settings) as second:
            stop = asyncio.Event()
            working = asyncio.create_task(second.run(stop))
            issues = [play.issue(f"Issue {number}") for number in range(ISSUES)]
            try:
                for issue in issues:
                    issue.label(play.ada, "devflow")
                for _ in range(3):
                    for issue in dice.sample(issues, len(issues)):
                        await asyncio.to_thread(dice.choice(_acts(play, issue)))
                        await asyncio.sleep(dice.random() * 0.2)
                await asyncio.to_thread(play.github.wait_deliveries, PATIENCE)
                await play.settled(PATIENCE)
                # what was put off, because so much may be written in a minute and no more
                async with asyncio.timeout(PATIENCE):
                    while await _late(play):
                        await asyncio.sleep(0.5)
                await play.settled()
            finally:
                stop.set()
                await working

        async with play.database.read() as tx:
            states = {row["state"] for row in await tx.all(select(runs.c.state))}
            handled = {row["state"] for row in await tx.all(select(deliveries.c.state))}
            held = await tx.all(select(runs.c.run_id).where(runs.c.lease_worker.is_not(None)))
            used = await tx.all(
                select(func.count()).select_from(workers).where(workers.c.heartbeat_at > workers.c.started_at)
            )
        assert states <= TERMINAL | {RunState.AWAITING_APPROVAL, RunState.PAUSED}
        assert handled <= {"handled", "ignored"}
        assert held == []
        assert used
        for issue in issues:
            live = [row for row in await play.runs(issue) if row["state"] not in TERMINAL]
            assert len(live) <= 1
            keys = [row["trigger_key"] for row in await play.runs(issue)]
            assert len(keys) == len(set(keys))
