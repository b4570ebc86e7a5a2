"""A run as a file: written, verified without a database, and gone on with on another machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store.database import Database
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import git
from tests.support.scenes import Scene


@pytest.fixture
def elsewhere(tmp_path: Path, other_database: Database) -> Iterator[ForkedCli]:
    """The command of a person at another machine."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    cli = ForkedCli(folder, other_database.url.replace("postgresql+asyncpg://", "postgresql://"))
    yield cli
    cli.close()


def test_a_run_is_exported_verified_imported_and_completed(
    devflow: ForkedCli, elsewhere: ForkedCli, scene: Scene, tmp_path: Path
) -> None:
    run = devflow.run(*scene.recorded("pair", "--json"), code=0).json["run_id"]
    file = tmp_path / "run.jsonl"

    assert "bytes" in devflow.run("export", run, "--output", str(file), code=0).err
    printed = devflow.run("export", run, code=0).out
    verified = devflow.run("audit", "verify", str(file), "--json", code=0).json
    imported = elsewhere.run("import", str(file), "--json", code=0).json
    again = elsewhere.run("import", str(file), code=0)
    completed = elsewhere.run("resume", run, "--approve", "always", "--json", code=0).json

    assert printed == file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    events = devflow.run("events", run, "--json", code=0).json["events"]
    assert verified == {"events": len(events), "valid": True, "broken_at": None, "problem": None}
    assert (imported["run_id"], imported["state"]) == (run, "awaiting_approval")
    assert "awaiting_approval" in again.out
    assert "devflow resume" in again.out
    assert completed["state"] == "completed"
    assert "42" in git(scene.repository, "show", f"{completed['branch']}:answer.py")
    assert "the chain holds" in elsewhere.run("audit", "verify", run, code=0).out


def test_a_changed_or_missing_file_is_told_in_words_and_changes_nothing(
    devflow: ForkedCli, elsewhere: ForkedCli, scene: Scene, tmp_path: Path
) -> None:
    run = devflow.run(*scene.recorded("solo", "--json"), code=0).json["run_id"]
    whole = devflow.run("export", run, "--without-conversations", code=0).out
    header = json.loads(whole.splitlines()[0])
    changed = tmp_path / "changed.jsonl"
    changed.write_text(whole.replace('"ANSWER', '"QUESTION').replace("author", "editor"))

    refused = elsewhere.run("import", str(changed), "--json", code=2).json["error"]
    verified = devflow.run("audit", "verify", str(changed), "--json", code=1).json
    missing = elsewhere.run("import", str(tmp_path / "none.jsonl"), code=2)
    unwritable = devflow.run("export", run, "--output", str(changed / "file"), code=2)
    nobody = devflow.run("audit", "verify", "none.jsonl", code=2)

    assert header["conversations"] is False
    assert refused["code"] == "snapshot_invalid"
    assert "it was changed" in refused["message"]
    assert (verified["valid"], "it was changed" in verified["problem"]) == (False, True)
    assert "cannot read" in missing.err
    assert "cannot write" in unwritable.err
    assert "run_not_found" in nobody.err
    assert elsewhere.run("runs", "--json", code=0).json == {"runs": []}


def test_a_run_that_went_on_meanwhile_is_not_overwritten(devflow: ForkedCli, scene: Scene, tmp_path: Path) -> None:
    run = devflow.run(*scene.recorded("solo", "--json"), code=0).json["run_id"]
    file = tmp_path / "run.jsonl"
    devflow.run("export", run, "--output", str(file), code=0)
    devflow.run("approve", run, code=0)

    refused = devflow.run("import", str(file), "--json", code=2).json["error"]

    assert refused["code"] == "snapshot_conflict"
