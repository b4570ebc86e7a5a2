"""A run that goes from machine to machine: each has its own mirror and worktree, and what counts is the branch."""

from pathlib import Path

from engine.domain.states import Action
from engine.store.agent_tables import agent_sessions
from engine.store.database import Database
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.engines import phase, small_house
from tests.support.repositories import commit_files, git

FIRST = [call("edit_file", path="answer.py", old="41", new="42")]
SECOND = [call("write_file", path="second.py", content="TWO = 2\n")]
THIRD = [call("write_file", path="third.py", content="THREE = 3\n")]


async def test_a_worktree_that_another_machine_has_overtaken_is_not_worked_in(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(
        tmp_path, database, *(phase(name, gates=["look"]) for name in ("first", "second")), phase("third")
    )
    other = house.with_settings(data_dir=tmp_path / "other")
    turns = {f"{name}/1/1": [edit, submit(CHANGE)] for name, edit in (("first", FIRST), ("second", SECOND))}
    run_id, _ = await house.run(turns | {"third/1/1": [THIRD, submit(CHANGE)]})

    await house.answer(run_id)
    await other.drive(run_id)
    await house.answer(run_id)
    run = await house.drive(run_id)

    assert (run["state"], run["error_message"]) == ("completed", None)
    changed = git(house.repository, "diff", "--name-status", "main", run["branch"], "--", ":!.devflow").splitlines()
    assert changed == ["M\tanswer.py", "A\tsecond.py", "A\tthird.py"]


async def test_a_worktree_is_kept_from_phase_to_phase(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("first", gates=["look"]), phase("second"))
    turns = {"first/1/1": [FIRST, submit(CHANGE)], "second/1/1": [SECOND, submit(CHANGE)]}
    run_id, _ = await house.run(turns)

    await house.answer(run_id)
    await house.drive(run_id)

    assert len({row["worktree_token"] for row in await house.rows(agent_sessions)}) == 1


async def test_what_a_person_pushed_at_a_gate_stays_and_the_worktree_is_brought_up_to_it(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, phase("plan", "thinker", "dev/spec@1", gates=["look"]), phase("second"))
    turns = {"plan/1/1": [submit(SPEC)], "second/1/1": [SECOND, submit(CHANGE)]}
    run_id, run = await house.run(turns)
    git(house.repository, "checkout", "--quiet", run["branch"])
    commit_files(house.repository, {"by_hand.py": "HAND = 1\n"})
    git(house.repository, "checkout", "--quiet", "main")

    await house.answer(run_id)
    run = await house.drive(run_id)

    assert (run["state"], run["error_message"]) == ("completed", None)
    changed = git(house.repository, "diff", "--name-status", "main", run["branch"], "--", ":!.devflow").splitlines()
    assert changed == ["A\tby_hand.py", "A\tsecond.py"]
    assert len({row["worktree_token"] for row in await house.rows(agent_sessions)}) == 1


async def test_a_revision_goes_on_from_what_a_person_pushed_at_the_gate(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("first", gates=["look"]))
    run_id, run = await house.run({"first/1/1": [FIRST, submit(CHANGE)], "first/2/1": [SECOND, submit(CHANGE)]})
    git(house.repository, "checkout", "--quiet", run["branch"])
    commit_files(house.repository, {"by_hand.py": "HAND = 1\n"})
    git(house.repository, "checkout", "--quiet", "main")

    await house.answer(run_id, Action.REVISE, note="and a second file, please")
    run = await house.drive(run_id)
    await house.answer(run_id)
    run = await house.drive(run_id)

    assert (run["state"], run["error_message"]) == ("completed", None)
    changed = git(house.repository, "diff", "--name-status", "main", run["branch"], "--", ":!.devflow").splitlines()
    assert changed == ["M\tanswer.py", "A\tby_hand.py", "A\tsecond.py"]


async def test_a_retry_keeps_what_a_person_pushed_beside_an_approved_artifact(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, phase("plan", "thinker", "dev/spec@1", gates=["look"]), phase("second"))
    turns = {"plan/1/1": [submit(SPEC)], "second/1/1": [], "second/1/2": []}
    run_id, run = await house.run(turns)
    git(house.repository, "checkout", "--quiet", run["branch"])
    commit_files(house.repository, {"by_hand.py": "HAND = 1\n"})
    git(house.repository, "checkout", "--quiet", "main")
    await house.answer(run_id)
    failed = await house.drive(run_id)

    again = await house.drive(await house.engine.retry(run_id, "ada"))

    assert failed["state"] == "failed"
    assert "by_hand.py" in git(house.repository, "ls-tree", "--name-only", again["branch"]).splitlines()
