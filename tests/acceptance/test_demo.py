"""The programs behind `make demo` and `make demo-local`, whole, as a stranger sees them on a machine without a key."""

import os
import re
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from engine.store.database import Database

ROOT = Path(__file__).parents[2]


def _run(module: str, folder: Path, database_url: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-P", "-m", module],
        cwd=folder,
        env=environment | {"DEVFLOW_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=400,
    )


async def _failed_tool_calls(database_url: str) -> list[object]:
    database = Database(database_url)
    try:
        async with database.read() as tx:
            return list((await tx.execute(text("SELECT tool, arguments FROM tool_calls WHERE status <> 'ok'"))).all())
    finally:
        await database.close()


async def test_the_demo_takes_an_issue_from_its_label_to_a_ready_pull_request_twice_on_one_database(
    tmp_path: Path, database_url: str
) -> None:
    result, again = (_run("demo", tmp_path, database_url) for _ in range(2))

    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    assert again.returncode == 0, again.stdout[-4000:] + again.stderr
    assert "no second run was started" not in again.stdout
    told = [
        "RECORDED agent",
        "ada puts the label `devflow` on issue #1",
        "draft pull request #2 opened: Splitting a bill loses cents",
        "@ada, please decide: Specify what is wanted",
        "bob approves with a review",
        "ada writes a comment: /approve",
        "pull request #2 is ready for review",
        "the pull request is ready for your review",
        "spec_approval: approved by bob",
        "Report: run 1 is completed",
    ]
    places = [result.stdout.find(line) for line in told]
    assert -1 not in places, told[places.index(-1)]
    assert places[:3] == sorted(places[:3])
    assert "<!--" not in result.stdout
    assert "<details>" not in result.stdout
    log = (tmp_path / ".demo" / "server.log").read_text()
    assert not re.search(r"WARNING|ERROR|Traceback", log), log
    assert await _failed_tool_calls(database_url) == []


async def test_the_local_demo_works_the_issue_and_every_recorded_tool_call_succeeds(
    tmp_path: Path, database_url: str
) -> None:
    result = _run("demo.local", tmp_path, database_url)

    assert result.returncode == 0, result.stderr
    before, _, after = result.stdout.partition("state:   completed")
    assert "FAIL: test_no_cent_is_lost" in before
    assert "RECORDED agent" in before
    assert "+    return [share + 1] * left_over + [share] * (people - left_over)" in after
    assert "+    def test_shares_differ_by_at_most_one_cent(self):" in after
    assert "Ran 3 tests" in after
    assert "OK" in after
    assert "gate verify_approval: approve by demo@example.invalid" in result.stderr
    assert await _failed_tool_calls(database_url) == []
