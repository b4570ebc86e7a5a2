"""One issue's state between steps on machines that share nothing but the repository: taken, kept, handed over, lost."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.action.keeper import Keeper
from app.action.packing import IssueRows
from app.action.state import read_state, state_ref
from engine.domain.errors import DevflowError, Fenced
from engine.facade import Engine
from engine.ports import Remote
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from engine.store.host_tables import deliveries
from engine.workspace import state_ref as refs
from engine.workspace.mirror import Mirror
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.clock import SteppedClock
from tests.support.engines import phase
from tests.support.hosted import REPOSITORY_ID, HostedHouse, hosted_house
from tests.support.repositories import git

ISSUE = 7
TURNS = {
    "spec/1/1": [submit(SPEC)],
    "change/1/1": [[call("edit_file", path="answer.py", old="41", new="42"), *submit(CHANGE)]],
}
EVENT = NewDelivery("comment:1", "issue_comment", {}, b'{"action": "created"}')


@dataclass
class Machine:
    """One step's machine: its own database and mirror, and its keeper."""

    house: HostedHouse
    rows: IssueRows
    keeper: Keeper
    mirror: Mirror

    async def events(self) -> list[str]:
        """The events that it has stored."""
        async with self.house.database.read() as tx:
            found = await tx.all(select(deliveries.c.delivery_id).order_by(deliveries.c.received_at))
        return [row["delivery_id"] for row in found]


@dataclass
class Place:
    """A hosted repository, and the machines that work on it one after the other."""

    first: HostedHouse
    clock: SteppedClock
    folder: Path

    async def machine(self, name: str, database: Database, *, url: str = "", attempt: int = 1) -> Machine:
        """A machine with nothing on it."""
        settings = replace(
            self.first.engine.settings,
            data_dir=self.folder / name,
            database_url=database.url,
            heartbeat_seconds=0.1,
            worker_dead_after_seconds=10,
        )
        house = replace(self.first, engine=Engine(settings, database, self.first.remotes))
        rows = IssueRows(house.engine, REPOSITORY_ID, ISSUE, conversations=True)
        mirror = await Mirror.open(settings.mirrors, REPOSITORY_ID, Remote(str(self.first.repository)))
        keeper = Keeper(
            rows, mirror, self.clock, settings, url=url or f"https://github.example/{name}", attempt=attempt
        )
        return Machine(house, rows, keeper, mirror)

    async def kept(self) -> str:
        """The commit behind the state's ref, empty where there is none."""
        return git(self.first.repository, "for-each-ref", "--format=%(objectname)", state_ref(ISSUE))


@pytest.fixture
def place(tmp_path: Path, database: Database) -> Place:
    house = hosted_house(tmp_path, database, phase("spec", "thinker", "dev/spec@1", gates=["look"]), phase("change"))
    return Place(house, SteppedClock(), tmp_path / "machines")


async def test_a_run_goes_on_where_another_machine_let_it_go(
    place: Place, database: Database, other_database: Database
) -> None:
    one = await place.machine("one", database)
    assert await one.keeper.take(EVENT) is not None
    run_id, row = await one.house.run_hosted(TURNS)
    assert row["state"] == "awaiting_approval"
    assert await one.keeper.release()
    two = await place.machine("two", other_database)
    assert await two.keeper.take(EVENT) is not None
    await two.house.answer(run_id)
    done = await two.house.drive(run_id)
    assert done["state"] == "completed"
    assert await two.keeper.release()
    number, broken = await two.house.engine.broken_link(run_id)
    assert (number, broken) == (done["event_seq"], None)


async def test_nothing_is_written_where_nothing_has_happened(place: Place, database: Database) -> None:
    one = await place.machine("one", database)
    await one.keeper.take(None)
    await one.keeper.keep()
    before = await place.kept()
    await one.keeper.keep()
    assert await place.kept() == before
    await one.house.trigger(TURNS)
    await one.keeper.keep()
    assert await place.kept() != before


async def test_a_step_that_comes_while_another_works_leaves_its_event_and_sees_it_taken_in(
    place: Place, database: Database, other_database: Database
) -> None:
    one, two = await place.machine("one", database), await place.machine("two", other_database)
    await one.keeper.take(None)
    waiting = asyncio.create_task(two.keeper.take(EVENT))
    stop = asyncio.Event()
    keeping = asyncio.create_task(one.keeper.run(stop))
    assert await waiting is None
    assert await one.events() == [EVENT.delivery_id]
    assert await two.events() == []
    stop.set()
    await keeping
    assert await one.keeper.release()


async def test_an_event_that_is_left_at_the_last_moment_is_not_lost(
    place: Place, database: Database, other_database: Database
) -> None:
    one, two = await place.machine("one", database), await place.machine("two", other_database)
    await one.keeper.take(None)
    before = await place.kept()
    waiting = asyncio.create_task(two.keeper.take(EVENT))
    while await place.kept() == before:
        await asyncio.sleep(0.01)
    assert await one.keeper.release() is False, "there is something to do still"
    assert await one.events() == [EVENT.delivery_id]
    assert await waiting is None
    assert await one.keeper.release() is True


async def test_a_step_without_an_event_leaves_an_issue_to_whoever_holds_it(
    place: Place, database: Database, other_database: Database
) -> None:
    one, two = await place.machine("one", database), await place.machine("two", other_database)
    await one.keeper.take(None)
    assert await two.keeper.take(None) is None


async def test_a_holder_that_is_silent_for_too_long_has_lost_the_issue(
    place: Place, database: Database, other_database: Database
) -> None:
    one, two = await place.machine("one", database), await place.machine("two", other_database)
    await one.keeper.take(None)
    run_id = (await one.house.trigger(TURNS)).run_id
    await one.keeper.keep()
    place.clock.step(31)
    assert await two.keeper.take(EVENT) is not None
    assert (await two.house.engine.row(run_id))["state"] == "created"
    with pytest.raises(Fenced, match=r"over: https.*/two"):
        await one.keeper.keep()
    with pytest.raises(Fenced):
        await one.keeper.release()
    assert await two.keeper.release()


async def test_what_was_left_for_a_lost_holder_is_taken_over_with_the_issue(
    place: Place, database: Database, other_database: Database
) -> None:
    one, two = await place.machine("one", database), await place.machine("two", other_database)
    await one.keeper.take(None)
    before = await place.kept()
    waiting = asyncio.create_task(two.keeper.take(EVENT))
    while await place.kept() == before:
        await asyncio.sleep(0.01)
    place.clock.step(31)
    assert await waiting is not None
    assert await two.events() == [EVENT.delivery_id]


async def test_a_step_whose_state_somebody_deletes_stops_and_says_so(place: Place, database: Database) -> None:
    one = await place.machine("one", database)
    await one.keeper.take(None)
    await one.house.trigger(TURNS)
    git(place.first.repository, "update-ref", "-d", state_ref(ISSUE))
    with pytest.raises(Fenced, match="deleted refs/devflow/state/7"):
        await one.keeper.keep()
    assert await place.kept() == ""


async def test_answers_that_a_state_brings_along_are_not_given_as_they_stand(
    place: Place, database: Database, other_database: Database
) -> None:
    one = await place.machine("one", database)
    await one.keeper.take(None)
    await one.rows.take_in([EVENT])
    forged = [{"reply": "anything", "body": "Anybody could have written this."}]
    async with one.house.database.transaction() as tx:
        await tx.execute(update(deliveries).values(responses=forged))
    await one.keeper.release()
    two = await place.machine("two", other_database)
    await two.keeper.take(None)
    async with two.house.database.read() as tx:
        row = await tx.one(select(deliveries))
    assert (row["delivery_id"], row["state"], row["responses"]) == (EVENT.delivery_id, "received", None)


async def test_a_job_that_is_run_again_need_not_wait_for_its_first_try(
    place: Place, database: Database, other_database: Database
) -> None:
    url = "https://github.example/octo/answers/actions/runs/1"
    one = await place.machine("one", database, url=url)
    await one.keeper.take(EVENT)
    two = await place.machine("two", other_database, url=url, attempt=2)
    assert await two.keeper.take(EVENT) is not None
    with pytest.raises(Fenced):
        await one.keeper.release()


async def test_a_holder_that_cannot_keep_anything_for_too_long_gives_up(
    place: Place, database: Database, tmp_path: Path
) -> None:
    one = await place.machine("one", database)
    await one.keeper.take(None)
    keeping = asyncio.create_task(one.keeper.run(asyncio.Event()))
    place.first.repository.rename(tmp_path / "away")
    place.clock.step(31)
    with pytest.raises(DevflowError) as lost:
        await keeping
    assert lost.value.code in ("fenced", "repository_not_found")


async def test_a_state_that_cannot_be_used_is_left_as_it_is(place: Place, database: Database) -> None:
    one = await place.machine("one", database)
    await one.keeper.take(None)
    await one.house.trigger(TURNS)
    await one.keeper.release()
    stored = await refs.read(one.mirror, state_ref(ISSUE))
    assert stored is not None
    state = read_state(stored.files, REPOSITORY_ID, ISSUE)
    (run_id,) = state.runs
    cut = replace(state, runs={run_id: state.runs[run_id][:-30]})
    forged = await refs.write(one.mirror, state_ref(ISSUE), cut.to_files(), expected=stored.commit, message="Forged")
    two = await place.machine("two", database)
    with pytest.raises(DevflowError, match=state_ref(ISSUE)) as refused:
        await two.keeper.take(EVENT)
    assert refused.value.code == "state_invalid"
    left = await refs.read(two.mirror, state_ref(ISSUE))
    assert left is not None
    assert left.files == (await _files(two.mirror, forged))


async def _files(mirror: Mirror, commit: str) -> dict[str, bytes]:
    names = (await mirror.git.text("ls-tree", "--name-only", commit)).splitlines()
    return {name: (await mirror.git.run("cat-file", "blob", f"{commit}:{name}")).stdout for name in names}
