"""Kill the process around its calls of a model: the conversation goes on, and every call that left is paid for once."""

import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.store import agent_tables
from engine.store.database import Database
from tests.model_server import ModelServer, Script, calls, serving
from tests.support import cassettes
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import git
from tests.support.short_workflow import FILES, WORKFLOW, Place
from tests.support.wholeness import assert_whole, only_run, rows_of, snapshot

_CONFIG = FILES[".github/devflow.yml"] + "prices:\n  scripted: {input: 10, output: 20}\n"
_RULES = [
    {
        "when": "# Phase: Change",
        "turns": [
            calls(("read_file", {"path": "answer.py"})),
            calls(("edit_file", {"path": "answer.py", "old": "41", "new": "42"}), ("list_files", {})),
            calls(("submit_artifact", {"artifact": cassettes.CHANGE})),
        ],
    },
    {"when": "# Phase: Review", "turns": [calls(("submit_artifact", {"artifact": cassettes.APPROVED}))]},
]
_ASKED_AT_START = 2  # the server's list of models, to bind personas and to check the chosen model
_TURNS = 4
_ROUNDS = [("change", 1), ("review", 1)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A repository with the short workflow and prices for the scripted model."""
    return Place(tmp_path, FILES | {".github/devflow.yml": _CONFIG, ".devflow/workflows/short.yaml": WORKFLOW})


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A model that does the short workflow."""
    with serving(Script(rules=_RULES)) as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path, database_url: str, server: ModelServer) -> Iterator[ForkedCli]:
    """The command with that model, on a data folder and a database of this test alone."""
    environment = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "the-key-of-this-test"}
    opened = ForkedCli(tmp_path, database_url, environment)
    yield opened
    opened.close()


def _run(place: Place) -> list[str]:
    run = ["run", "--repo", str(place.repository), "--issue", str(place.issue), "--workflow", "short", "--json"]
    return [*run, "--model", "scripted", "--budget-usd", "5", "--sandbox", "none", "--as", "ada", "--approve", "always"]


@pytest.mark.parametrize(
    ("point", "lost_calls"),
    [
        (f"model_call.before#{_ASKED_AT_START + 1}", 1),
        (f"model_call.after#{_ASKED_AT_START + 2}", 1),
        (f"model_call.after#{_ASKED_AT_START + 4}", 1),
        ("sql_commit.before#21", None),
        ("sql_commit.after#26", None),
        ("sql_commit.before#31", None),
    ],
)
async def test_a_killed_conversation_goes_on_where_it_was_and_no_call_is_lost_or_paid_twice(
    point: str, lost_calls: int | None, place: Place, cli: ForkedCli, server: ModelServer, database: Database
) -> None:
    before = snapshot(place.repository)
    assert cli.run(*_run(place), env={"DEVFLOW_FAILPOINT": point}).code == -signal.SIGKILL
    run_id = await only_run(database)
    assert run_id is not None

    resumed = cli.run("resume", str(run_id), "--approve", "always", "--json", code=0)

    assert resumed.json["state"] == "completed"
    await assert_whole(database, place.data_dir, place.repository, run_id, _ROUNDS, before)
    _assert_strict_extensions([request["messages"] for request in server.requests])
    ledger = await rows_of(database, agent_tables.ledger, run_id)
    unknown = [call for call in ledger if call["status"] == "unknown"]
    assert len(unknown) in ((0, 1) if lost_calls is None else (lost_calls,))
    for call in unknown:
        assert (call["cost_usd"], call["cost_source"]) == (call["reserved_usd"], "reservation")
        assert call["reserved_usd"] > 0
    settled = [call for call in ledger if call["status"] == "settled"]
    assert len(settled) == _TURNS
    assert {(call["phase_key"], call["turn_index"]) for call in settled} == {
        ("change", 0), ("change", 1), ("change", 2), ("review", 0)
    }  # fmt: skip
    assert resumed.json["cost_usd"] == pytest.approx(float(sum(call["cost_usd"] for call in ledger)))


def _assert_strict_extensions(requests: list[list[dict[str, Any]]]) -> None:
    """Each request of a phase repeats the one before it, or goes on from its last message."""
    for earlier, later in pairwise(requests):
        if earlier[1] == later[1]:  # the envelope, which names phase and round
            assert later[: len(earlier)] == earlier


async def test_a_kill_before_the_run_exists_leaves_nothing(place: Place, cli: ForkedCli, database: Database) -> None:
    assert cli.run(*_run(place), env={"DEVFLOW_FAILPOINT": "model_call.before#1"}).code == -signal.SIGKILL

    assert await only_run(database) is None
    assert git(place.repository, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert not (place.data_dir / "workspaces").exists()


async def test_a_whole_run_passes_every_kind_of_point(place: Place, cli: ForkedCli, tmp_path: Path) -> None:
    log = tmp_path / "points"

    cli.run(*_run(place), env={"DEVFLOW_FAILPOINT_LOG": str(log)}, code=0)

    names = log.read_text().split()
    effects = ("sql_commit", "git_commit", "git_push", "model_call", "file_write")
    assert set(names) == {f"{effect}.{side}" for effect in effects for side in ("before", "after")}
    for effect in effects:
        assert names.count(f"{effect}.before") == names.count(f"{effect}.after")
    # one commit and one push a phase and one for the report
    passed = {effect: names.count(f"{effect}.before") for effect in effects}
    assert (passed["git_commit"], passed["git_push"]) == (3, 3)
    assert passed["model_call"] == _ASKED_AT_START + _TURNS
