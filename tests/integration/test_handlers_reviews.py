"""Reviews of a run's pull request decide its gates: conversations with the GitHub double."""

import asyncio
from pathlib import Path

from engine.domain.states import RunState
from tests.support.cassettes import call
from tests.support.engines import phase
from tests.support.stage import PHASES, TURNS, stage


async def test_an_approving_review_approves(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        review = (await play.pull(issue)).review(play.ada, "approve")
        await play.settled()

        assert await play.state(issue) == RunState.COMPLETED
        assert play.emoji(review) == ["eyes", "rocket"]


async def test_requested_changes_send_the_work_back_with_the_inline_comments(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        path = f".devflow/runs/{run['run_id']}/spec.md"
        pull.review(play.ada, "request_changes", "Not yet.", comments=[(path, 3, "Which list?")])
        await play.settled()

        first, second = await play.host.engine.requests(run["run_id"])
        assert (first["state"], second["state"]) == ("revised", "pending")
        (decision,) = await play.host.engine.decisions(first["request_id"])
        assert decision["note"] == f"Not yet.\n\n{path}, line 3:\nWhich list?"
        assert play.replies(pull) == []

        # what an agent is given has an end, and whoever wrote more hears of it
        long = pull.review(play.ada, "request_changes", "x" * 30_000, comments=[(path, 3, "y" * 30_000)])
        await play.settled()
        (decision,) = await play.host.engine.decisions(second["request_id"])
        assert len(decision["note"]) == 50_000
        assert play.emoji(long) == ["eyes", "rocket"]
        (reply,) = play.replies(pull)
        assert "@ada, your review with its comments is longer than an agent is given" in reply
        assert "50,000 characters" in reply


async def test_a_review_of_an_old_commit_does_not_count_and_says_so(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        seen = pull.head_sha
        issue.comment(play.ada, "/revise more")
        await play.settled()
        review = pull.review(play.ada, "approve", commit_id=seen)
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        (reply,) = play.replies(pull)
        assert seen[:12] in reply
        assert play.emoji(review) == ["eyes", "confused"]


async def test_a_review_after_an_update_of_the_branch_that_left_the_content_counts(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        play.repository.commit("main", {"other.txt": "new\n"}, play.ada)
        pull.update_branch(play.ada)
        pull.review(play.ada, "approve")
        await play.settled()

        assert await play.state(issue) == RunState.COMPLETED
        assert [row["state"] for row in await play.host.engine.requests(run["run_id"])] == ["approved"]


async def test_a_person_edits_the_artifact_and_approves_what_they_made_of_it(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        path = f".devflow/runs/{run['run_id']}/spec.json"
        before = play.repository.read(run["branch"], path)
        assert before is not None
        seen = pull.head_sha
        play.repository.commit(run["branch"], {path: before.replace("Change the constant", "Compute it")}, play.ada)
        await play.settled()
        pull.review(play.ada, "approve", commit_id=seen)
        await play.settled()
        between = await play.state(issue)
        pull.review(play.ada, "approve")
        await play.settled()

        assert (between, await play.state(issue)) == (RunState.AWAITING_APPROVAL, RunState.COMPLETED)
        states = [row["state"] for row in await play.host.engine.requests(run["run_id"])]
        assert states == ["superseded", "approved"]


async def test_an_artifact_that_a_push_made_invalid_is_explained_to_who_pushed(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        path = f".devflow/runs/{run['run_id']}/spec.json"
        play.repository.commit(run["branch"], {path: '{"requirements": []}\n'}, play.ada)
        await play.settled()

        (reply,) = play.replies(issue)
        assert reply.splitlines()[1].startswith("@ada, the artifact of phase spec was changed")
        assert "`/revise <feedback>`" in reply
        assert await play.state(issue) == RunState.AWAITING_APPROVAL


async def test_an_outsiders_approval_counts_for_nothing(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        first = pull.review(play.outsider, "approve")
        await play.settled()
        pull.review(play.outsider, "approve")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert len(play.replies(pull)) == 1
        assert play.emoji(first) == ["eyes", "confused"]


async def test_a_bots_approval_counts_for_nothing(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        payload_of = (await play.pull(issue)).review(play.ada, "comment", "hm")
        sent = next(one for one in play.github.deliveries if one.event == "pull_request_review").payload
        sent["review"] |= {"state": "approved", "id": payload_of.id + 1}
        for person in (sent["review"]["user"], sent["sender"]):
            person |= {"type": "Bot", "login": "helper[bot]"}
        play.github.send("pull_request_review", sent)
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL


async def test_an_approval_while_the_phase_still_runs_approves_nothing_and_says_so(
    tmp_path: Path, database_url: str
) -> None:
    slow = {**TURNS, "change/1/1": [[call("run_command", command="sleep 3")], *TURNS["change/1/1"]]}
    phases = (PHASES[0], phase("change", gates=["change_approval"]))
    async with stage(tmp_path, database_url, turns=slow, phases=phases) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        pull.review(play.ada, "approve")
        while "change" not in [event["phase_key"] for event in await play.host.engine.events(run["run_id"])]:
            await asyncio.sleep(0.05)
        early = pull.review(play.ada, "approve")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert play.emoji(early) == ["eyes", "confused"]
        (reply,) = play.replies(pull)
        assert "It is working and asks when it needs somebody" in reply


async def test_a_review_of_a_run_that_is_done_is_peoples_own(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        pull = await play.pull(issue)
        late = pull.review(play.ada, "approve", "Thanks.")
        await play.settled()

        # a run that is done takes part in no review
        assert (play.emoji(late), play.replies(pull)) == ([], [])


async def test_a_review_without_a_verdict_is_talk_but_commands_in_it_are_explained(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        talk = pull.review(play.ada, "comment", "Interesting.")
        command = pull.review(play.ada, "comment", "/approve")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert play.emoji(talk) == []
        assert play.emoji(command) == ["confused"]
        assert "Commands count in ordinary comments" in play.replies(pull)[0].replace("commands", "Commands", 1)


async def test_the_same_review_again_does_nothing_more(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        review = (await play.pull(issue)).review(play.ada, "approve")
        await play.settled()
        sent = next(one for one in play.github.deliveries if one.event == "pull_request_review")
        for new_guid in (False, True):
            play.github.redeliver(sent, new_guid=new_guid)
        await play.settled()

        (request,) = await play.host.engine.requests(run["run_id"])
        assert len(await play.host.engine.decisions(request["request_id"])) == 1
        assert play.emoji(review) == ["eyes", "rocket"]
        assert play.replies(await play.pull(issue)) == []


async def test_a_dismissed_review_takes_nothing_back(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, required_approvals=2) as play:
        grace = play.github.person("grace")
        play.repository.permit(grace, "write")
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        review = pull.review(play.ada, "approve")
        await play.settled()
        pull.dismiss_review(grace, review)
        pull.review(grace, "approve")
        await play.settled()

        assert await play.state(issue) == RunState.COMPLETED
