"""The program behind `make demo`: the main job, whole, as a stranger sees it on a machine without a key."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from engine.store.database import Database

ROOT = Path(__file__).parents[2]


async def test_the_demo_works_the_issue_and_every_recorded_tool_call_succeeds(
    tmp_path: Path, database_url: str
) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "demo.local"]

    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment | {"DEVFLOW_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert result.returncode == 0, result.stderr
    before, _, after = result.stdout.partition("state:   completed")
    assert "FAIL: test_no_cent_is_lost" in before
    assert "RECORDED agent" in before
    assert "+    return [share + 1] * left_over + [share] * (people - left_over)" in after
    assert "+    def test_shares_differ_by_at_most_one_cent(self):" in after
    assert "Ran 3 tests" in after
    assert "OK" in after
    assert "gate verify_approval: approve by demo@example.invalid" in result.stderr
    database = Database(database_url)
    try:
        async with database.transaction() as tx:
            failed = (await tx.execute(text("SELECT tool, arguments FROM tool_calls WHERE status <> 'ok'"))).all()
    finally:
        await database.close()
    assert failed == []
