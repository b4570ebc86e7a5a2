"""What opening the engine puts right after a crash, and what it leaves alone because somebody else is about it."""

import shutil
from pathlib import Path
from uuid import UUID

from sqlalchemy import update

from app.local.remotes import LocalRemotes
from engine.domain.states import RunState
from engine.facade import Engine
from engine.settings import Settings
from engine.store import leases, workers
from engine.store.database import Database
from engine.store.tables import runs
from engine.store.workers import WorkerIdentity
from tests.rows import add_run, age_worker, run_row
from tests.support.cassettes import CHANGE, submit
from tests.support.engines import House, config, phase, workflow
from tests.support.repositories import git, make_repository


async def _held_by_a_living_worker(database: Database, run_id: UUID) -> WorkerIdentity:
    worker = WorkerIdentity.of_this_process()
    async with database.transaction() as tx:
        await workers.register(tx, worker)
    await leases.take(database, run_id, worker.worker_id, 30)
    return worker


async def test_a_run_that_another_living_worker_holds_is_left_as_it_is(database: Database, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=database.url)
    states = (RunState.EXECUTING, RunState.COMPLETED, RunState.FAILED)
    held = [await add_run(database, state) for state in states]
    for run_id in held:
        await _held_by_a_living_worker(database, run_id)
    before = [dict(await run_row(database, run_id)) for run_id in held]

    async with Engine.open(settings, LocalRemotes()):
        pass

    assert [dict(await run_row(database, run_id)) for run_id in held] == before


async def test_runs_that_go_on_are_not_touched_by_a_start_though_their_worker_is_dead(
    database: Database, tmp_path: Path
) -> None:
    run_id = await add_run(database, RunState.EXECUTING)
    worker = await _held_by_a_living_worker(database, run_id)
    await age_worker(database, worker.worker_id, 3600)
    before = dict(await run_row(database, run_id))

    async with Engine.open(Settings(data_dir=tmp_path, database_url=database.url), LocalRemotes()):
        pass

    assert dict(await run_row(database, run_id)) == before


async def _completed_run(database: Database, tmp_path: Path) -> tuple[House, UUID]:
    files = {".devflow/workflows/small.yaml": workflow(phase("change")), ".github/devflow.yml": config()}
    repository = make_repository(tmp_path / "repository", files)
    settings = Settings(data_dir=tmp_path / "data", database_url=database.url)
    house = House(Engine(settings, database, LocalRemotes()), repository)
    run_id, row = await house.run({"change/1/1": [submit(CHANGE)]}, sandbox="none")
    assert row["state"] == RunState.COMPLETED
    return house, run_id


async def test_a_report_is_written_once_though_two_processes_miss_it(database: Database, tmp_path: Path) -> None:
    house, run_id = await _completed_run(database, tmp_path)

    await house.engine.settle(run_id)
    await house.engine.write_missing_reports()

    subjects = git(house.repository, "log", "--all", "--format=%s").splitlines()
    assert [subject for subject in subjects if subject.startswith("Report")] == ["Report: run 1 is completed"]


async def test_a_run_that_has_ended_is_freed_from_a_worker_that_died_before_it_handed_the_lease_back(
    database: Database, tmp_path: Path
) -> None:
    house, run_id = await _completed_run(database, tmp_path)
    worker = await _held_by_a_living_worker(database, run_id)
    await age_worker(database, worker.worker_id, 3600)

    async with Engine.open(house.engine.settings, LocalRemotes()) as engine:
        row = await engine.row(run_id)

    assert row["lease_worker"] is None
    subjects = git(house.repository, "log", "--all", "--format=%s").splitlines()
    assert len([subject for subject in subjects if subject.startswith("Report")]) == 1


async def test_a_missing_report_that_cannot_be_published_is_still_written_beside_the_data(
    database: Database, tmp_path: Path
) -> None:
    house, run_id = await _completed_run(database, tmp_path)
    async with database.transaction() as tx:
        await tx.execute(update(runs).where(runs.c.run_id == run_id).values(final_report_path=None))
    shutil.rmtree(house.repository)
    shutil.rmtree(house.engine.settings.reports)

    async with Engine.open(house.engine.settings, LocalRemotes()) as engine:
        row = await engine.row(run_id)

    assert (row["state"], row["lease_worker"]) == (RunState.COMPLETED, None)
    assert "the report could not be put on the branch" in Path(row["final_report_path"]).read_text()


async def test_one_who_may_not_reach_every_repository_closes_no_runs(database: Database, tmp_path: Path) -> None:
    run_id = await add_run(database, RunState.COMPLETED)

    async with Engine.open(Settings(data_dir=tmp_path, database_url=database.url), LocalRemotes(), closes_runs=False):
        pass

    assert (await run_row(database, run_id))["final_report_path"] is None
