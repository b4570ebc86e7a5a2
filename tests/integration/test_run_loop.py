"""The run loop: phases in their order, what an attempt may leave, one repair, and what a run ends with."""

from pathlib import Path

from engine.store.database import Database
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.engines import phase, small_house
from tests.support.repositories import git


async def test_a_run_of_two_phases_completes_and_stores_both_completions(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("think", "thinker", "dev/spec@1"), phase("build"))
    edit = [call("edit_file", path="answer.py", old="41", new="42")]

    run_id, run = await house.run({"think/1/1": [submit(SPEC)], "build/1/1": [edit, submit(CHANGE)]})

    assert run["state"] == "completed"
    done = await house.events(run_id, "phase.completed")
    assert [event["phase_key"] for event in done] == ["think", "build"]
    assert git(house.repository, "show", f"{run['branch']}:answer.py") == "def answer():\n    return 42"
