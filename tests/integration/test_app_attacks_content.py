"""Attacks on what an approval is for: other content than was seen, evidence that somebody made up, forged surfaces."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from engine.domain.artifact import digest
from engine.domain.states import RunState
from tests.support.cassettes import SPEC, submit
from tests.support.conversation import conversation
from tests.support.engines import phase
from tests.support.stage import PHASES, TURNS, Stage, stage

CHECKED = (PHASES[0], phase("change", gates=["change_approval"], checks=[{"use": "answer", "expect": "fail"}]))
CHECKS = {"answer": {"run": "python3 -c 'import sys; sys.exit(3)'"}}


def _put(play: Stage, branch: str, mode: str, path: str, content: bytes) -> None:
    """Push a commit that puts an entry of any kind in a file's place."""
    bare, head = play.repository.git, play.repository.head(branch)
    who = f"Ada <{play.repository.email_of(play.ada)}> 1790000000 +0000"
    head_lines = ["commit refs/heads/" + branch, f"author {who}", f"committer {who}", "data 4", "odd\n", f"from {head}"]
    lines = "\n".join([*head_lines, f"D {path}", ""]).encode()
    if mode == "160000":
        lines += f"M 160000 {head} {path}\n".encode()
    elif mode:
        lines += f"M {mode} inline {path}\ndata {len(content)}\n".encode() + content + b"\n"
    bare._git("fast-import", "--quiet", "--force", input_bytes=lines)
    play.repository.refs_changed(play.ada)


ODD = {
    "deleted": ("", "", b""),
    "a link to what was approved": ("120000", "", b"../../../copy.json"),
    "a folder": ("100644", "/spec.json", b"{}"),
    "a submodule": ("160000", "", b""),
    "huge": ("100644", "", b'{"requirements": ["' + b"x" * 5_000_000 + b'"]}'),
    "deeply nested": ("100644", "", b"[" * 200_000),
    "not text": ("100644", "", b"\xff\xfe\x00"),
    "with a surrogate": ("100644", "", b'{"approach": "\\ud800"}'),
    "with a number of many digits": ("100644", "", b'{"approach": ' + b"9" * 10_000 + b"}"),
}


@pytest.mark.parametrize("what", ODD)
async def test_an_artifact_that_is_no_artifact_any_more_is_not_approved(
    tmp_path: Path, database_url: str, what: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        path = f".devflow/runs/{run['run_id']}/spec.json"
        mode, below, content = ODD[what]
        play.repository.commit(run["branch"], {"copy.json": play.repository.read(run["branch"], path)}, play.ada)
        if below:
            play.repository.commit(run["branch"], {path: None, path + below: content}, play.ada)
        else:
            _put(play, run["branch"], mode, path, content)
        await play.settled()
        issue.comment(play.ada, "/approve")
        (await play.pull(issue)).review(play.ada, "approve")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert "was changed on the branch and is not valid now" in play.replies(issue)[0]


@pytest.mark.parametrize(
    "forged",
    [
        {"run_id": "00000000-0000-0000-0000-000000000000"},
        {"run_id": "../../../../../../eve/evil/blob/main"},
        {"phase_key": "spec"},
        {"checks": []},
        {"checks": None},
    ],
    ids=["run", "path", "phase", "no checks", "checks deleted"],
)
async def test_what_the_engine_wrote_into_an_artifact_is_not_for_people_to_change(
    tmp_path: Path, database_url: str, forged: dict[str, object]
) -> None:
    async with conversation(tmp_path, database_url, phases=CHECKED, checks=CHECKS) as play:
        issue, run = await play.labelled()
        issue.comment(play.ada, "/approve")
        await play.settled()
        path = f".devflow/runs/{run['run_id']}/change.json"
        artifact = json.loads(play.repository.read(run["branch"], path) or "")
        assert artifact["checks"][0]["exit_code"] == 3
        changed = {name: value for name, value in {**artifact, **forged}.items() if value is not None}
        play.repository.commit(run["branch"], {path: json.dumps(changed)}, play.ada)
        await play.settled()
        (await play.pull(issue)).review(play.ada, "approve")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        states = [row["state"] for row in await play.host.engine.requests(run["run_id"])]
        assert states == ["approved", "pending"]


async def test_a_failed_check_cannot_be_made_a_good_one_by_a_push(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url, phases=CHECKED, checks=CHECKS) as play:
        issue, run = await play.labelled()
        issue.comment(play.ada, "/approve")
        await play.settled()
        path = f".devflow/runs/{run['run_id']}/change.json"
        artifact = play.repository.read(run["branch"], path) or ""
        forged = artifact.replace('"exit_code": 3', '"exit_code": 0')
        assert forged != artifact
        play.repository.commit(run["branch"], {path: forged}, play.ada)
        await play.settled()
        issue.comment(play.ada, "/approve")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL


async def test_content_that_comes_back_is_approved_by_whoever_saw_it_and_no_other(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull, path = await play.pull(issue), f".devflow/runs/{run['run_id']}/spec.json"
        first = pull.head_sha
        spec = play.repository.read(first, path) or ""
        other = play.repository.commit(run["branch"], {path: spec.replace("Change the", "Keep the")}, play.ada)
        await play.settled()
        play.repository.force_push(run["branch"], first, play.ada)
        await play.settled()
        pull.review(play.ada, "approve", commit_id=other)
        issue.comment(play.ada, f"/approve {play.repository.head('main')}")
        await play.settled()
        between = await play.state(issue)
        pull.review(play.ada, "approve", commit_id=first)
        await play.settled()

        assert (between, await play.state(issue)) == (RunState.AWAITING_APPROVAL, RunState.COMPLETED)
        states = [row["state"] for row in await play.host.engine.requests(run["run_id"])]
        assert states == ["superseded", "superseded", "approved"]


async def test_the_next_phase_gets_what_was_approved_though_its_file_was_changed_afterwards(
    tmp_path: Path, database_url: str
) -> None:
    phases = (PHASES[0], phase("plan", "thinker", "dev/spec@1", gates=["plan_approval"]), phase("change"))
    async with conversation(tmp_path, database_url, phases=phases, turns=TURNS | {"plan/1/1": [submit(SPEC)]}) as play:
        issue, run = await play.labelled()
        issue.comment(play.ada, "/approve")
        await play.settled()
        path = f".devflow/runs/{run['run_id']}/spec.json"
        approved = play.repository.read(run["branch"], path) or ""
        forged = approved.replace("Change the constant", "Delete the repository")
        assert forged != approved
        play.repository.commit(run["branch"], {path: forged}, play.ada)
        await play.settled()
        issue.comment(play.ada, "/approve")
        await play.settled()

        assert await play.state(issue) == RunState.COMPLETED
        report, markdown = await play.host.engine.report(run["run_id"])
        assert "Delete the repository" not in json.dumps(report) + str(markdown)
        assert digest(approved.encode()) in json.dumps(report)
        async with play.database.read() as tx:
            prompts = [row["said"] for row in await tx.all(text("SELECT m::text AS said FROM session_messages AS m"))]
        assert any("Change the constant" in one for one in prompts)
        assert not any("Delete the repository" in one for one in prompts)
