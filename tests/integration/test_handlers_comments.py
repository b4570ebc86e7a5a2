"""Comment commands, from who wrote them to what became of them: conversations with the GitHub double."""

import asyncio
from pathlib import Path

import pytest

from engine.domain.states import RunState
from tests.support.cassettes import call
from tests.support.engines import phase
from tests.support.stage import PHASES, TURNS, stage


async def test_a_comment_approves_and_the_run_goes_on_to_its_end(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        comment = (await play.pull(issue)).comment(play.ada, "Good.\n\n/approve")
        await play.settled()

        assert await play.state(issue) == RunState.COMPLETED
        assert play.emoji(comment) == ["eyes", "rocket"]
        assert play.replies(issue) == play.replies(await play.pull(issue)) == []


async def test_a_run_is_revised_twice_and_rejected(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        for feedback in ("Say more.", "And less."):
            issue.comment(play.ada, f"/revise {feedback}")
            await play.settled()
        issue.comment(play.ada, "/reject it is not what I meant")
        await play.settled()

        assert await play.state(issue) == RunState.FAILED
        requests = await play.host.engine.requests(run["run_id"])
        assert [request["state"] for request in requests] == ["revised", "revised", "rejected"]
        (decision,) = await play.host.engine.decisions(requests[0]["request_id"])
        assert (decision["note"], decision["by"], decision["by_id"]) == ("Say more.", "ada", play.ada.id)


async def test_an_outsider_is_told_once_and_later_only_by_emoji(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        first = issue.comment(play.outsider, "/approve")
        await play.settled()
        second = issue.comment(play.outsider, "/abort")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        (reply,) = play.replies(issue)
        assert "@mallory, that has no effect. Whoever has write permission on this repository may decide here." in reply
        assert (play.emoji(first), play.emoji(second)) == (["eyes", "confused"], ["eyes", "confused"])


async def test_a_login_that_now_belongs_to_somebody_else_has_no_rights(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        comment = issue.comment(play.outsider, "/approve")
        forged = play.github.deliveries[-1].payload
        assert forged["comment"]["id"] == comment.id
        for person in (forged["comment"]["user"], forged["sender"]):
            person["login"] = "ada"
        play.github.send("issue_comment", forged)
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL


async def test_edited_comments_bots_and_our_own_comments_never_fire(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        harmless = issue.comment(play.ada, "Hm.")
        issue.edit_comment(play.ada, harmless, "/abort")
        issue.comment(play.github.app.bot, "/abort")
        issue.comment(play.ada, "<!-- devflow:run/x/status -->\n/abort")
        issue.comment(play.ada, "> /abort\n\n`/abort`\n\nI would not /abort this.")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert play.replies(issue) == []


async def test_prose_gets_no_answer(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        comment = issue.comment(play.ada, "I like it.\n/lgtm\n/etc/hosts")
        await play.settled()

        assert (play.emoji(comment), play.replies(issue)) == ([], [])


async def test_a_near_miss_is_answered_and_ends_the_comment(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        comment = issue.comment(play.ada, "/aprove\n/abort")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        (reply,) = play.replies(issue)
        assert "`/aprove` is no command. Did you mean `/approve`?" in reply
        assert "`/abort` further down in the same comment was not carried out." in reply
        assert play.emoji(comment) == ["eyes", "confused"]


async def test_several_commands_are_carried_out_in_order_with_one_answer(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        comment = issue.comment(play.ada, "/pause\n/status\n/abort enough\n/help")
        await play.settled()

        assert await play.state(issue) == RunState.ABORTED
        (reply,) = play.replies(issue)
        assert "has paused" in reply and "`/approve [sha]`" in reply
        assert play.emoji(comment) == ["eyes", "rocket"]


@pytest.mark.parametrize(
    ("before", "command", "said"),
    [
        ((), "/resume", ""),
        ((), "/retry", "`/approve`"),
        (("/pause",), "/pause", "`/approve`"),
        (("/pause",), "/resume", "`/approve`"),
        (("/pause",), "/revise more", "`/approve`"),
        (("/abort",), "/approve", "`/retry`"),
        (("/abort",), "/resume", "`/retry`"),
        (("/approve",), "/approve", "put the label on again"),
        (("/approve",), "/retry", "put the label on again"),
        ((), "/revise", "`/revise Say what"),
        ((), "/approve 1234567", "`/approve <sha>`"),
    ],
)
async def test_a_refusal_says_what_fits_and_never_a_shell_command(
    tmp_path: Path, database_url: str, before: tuple[str, ...], command: str, said: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        for earlier in before:
            issue.comment(play.ada, earlier)
            await play.settled()
        comment = issue.comment(play.ada, command)
        await play.settled()

        if not said:
            assert play.emoji(comment) == ["eyes", "rocket"]
            return
        (reply,) = play.replies(issue)
        assert reply.splitlines()[1].startswith("@ada")
        assert said in reply
        assert "devflow " not in reply.partition("-->")[2]
        assert play.emoji(comment) == ["eyes", "confused"]


async def test_pause_resume_abort_and_retry_each_have_their_effect(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        states = []
        for command in ("/pause", "/abort", "/retry"):
            issue.comment(play.ada, command)
            await play.settled()
            states.append(await play.state(issue))

        assert states == [RunState.PAUSED, RunState.ABORTED, RunState.AWAITING_APPROVAL]
        assert len(await play.runs(issue)) == 2


async def test_a_run_that_is_at_work_pauses_and_resumes(tmp_path: Path, database_url: str) -> None:
    slow = {**TURNS, "change/1/1": [[call("run_command", command="sleep 1")], *TURNS["change/1/1"]]}
    async with stage(tmp_path, database_url, turns=slow) as play:
        issue, run = await play.labelled()
        issue.comment(play.ada, "/approve")
        while "change" not in [
            event["phase_key"]
            for event in await play.host.engine.events(run["run_id"])
            if event["type"] == "phase.started"
        ]:
            await asyncio.sleep(0.05)
        early = issue.comment(play.ada, "/retry")
        issue.comment(play.ada, "/pause for lunch")
        await play.settled()
        between = await play.state(issue)
        issue.comment(play.ada, "/resume")
        await play.settled()

        assert (between, await play.state(issue)) == (RunState.PAUSED, RunState.COMPLETED)
        assert play.emoji(early) == ["eyes", "confused"]


async def test_an_approval_with_the_gates_commit_counts_and_one_with_another_does_not(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        issue.comment(play.ada, f"/approve {run['base_sha'][:10]}")
        await play.settled()
        between = await play.state(issue)
        issue.comment(play.ada, f"/approve {(await play.run(issue))['head_sha'][:10]}")
        await play.settled()

        assert (between, await play.state(issue)) == (RunState.AWAITING_APPROVAL, RunState.COMPLETED)


async def test_a_comment_that_is_older_than_the_question_decides_nothing(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, phases=(PHASES[0], phase("change", gates=["change_approval"]))) as play:
        issue, _ = await play.labelled()
        play.github.hold()
        early = issue.comment(play.ada, "/approve")
        (held,) = [one for one in play.github.held if one.event == "issue_comment"]
        play.github.release([one for one in play.github.held if one is not held])
        issue.comment(play.ada, "/approve")
        play.github.release([one for one in play.github.held if one is not held])
        for _ in range(200):
            play.github.release([one for one in play.github.held if one is not held])
            if len(await play.host.engine.requests((await play.run(issue))["run_id"])) == 2:
                break
            await play.settled()
        await play.settled()
        play.github.release()
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert play.emoji(early)[-1] == "confused"


async def test_the_same_comment_again_does_nothing_more(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, on_conflict="queue") as play:
        issue, _ = await play.labelled()
        issue.label(play.ada, "devflow:small")
        await play.settled()
        comment = issue.comment(play.ada, "/abort this one")
        await play.settled()
        sent = next(
            one
            for one in play.github.deliveries
            if one.event == "issue_comment" and one.payload["comment"]["id"] == comment.id
        )
        for new_guid in (False, True, True):
            play.github.redeliver(sent, new_guid=new_guid)
            await play.settled()

        # the second run is what the issue's commands mean now, but not what this one meant
        assert [row["state"] for row in await play.runs(issue)] == [RunState.ABORTED, RunState.AWAITING_APPROVAL]
        assert play.emoji(comment) == ["eyes", "rocket"]


async def test_a_retry_that_comes_again_is_still_one_run(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        issue.comment(play.ada, "/abort")
        await play.settled()
        comment = issue.comment(play.ada, "/retry")
        await play.settled()
        sent = next(
            one
            for one in play.github.deliveries
            if one.event == "issue_comment" and one.payload["comment"]["id"] == comment.id
        )
        play.github.redeliver(sent, new_guid=True)
        await play.settled()

        assert len(await play.runs(issue)) == 2
        assert play.emoji(comment) == ["eyes", "rocket"]


async def test_the_requester_does_not_approve_where_the_configuration_says_so(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url, requester_may_approve=False) as play:
        grace = play.github.person("grace")
        play.repository.permit(grace, "write")
        issue, _ = await play.labelled()
        issue.comment(play.ada, "/approve")
        await play.settled()
        between = await play.state(issue)
        (reply,) = play.replies(issue)
        issue.comment(grace, "/approve")
        await play.settled()

        assert "whoever asked for a run does not approve it" in reply
        assert (between, await play.state(issue)) == (RunState.AWAITING_APPROVAL, RunState.COMPLETED)


async def test_two_approvals_are_two_people(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, required_approvals=2) as play:
        grace = play.github.person("grace")
        play.repository.permit(grace, "maintain")
        issue, _ = await play.labelled()
        issue.comment(play.ada, "/approve")
        await play.settled()
        issue.comment(play.ada, "/approve")
        await play.settled()
        between = await play.state(issue)
        issue.comment(grace, "/approve")
        await play.settled()

        assert (between, await play.state(issue)) == (RunState.AWAITING_APPROVAL, RunState.COMPLETED)
        assert "1 of 2 approvals" in play.replies(issue)[0]


async def test_where_the_prefix_is_wanted_bare_commands_are_somebody_elses(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, commands="prefixed") as play:
        issue, _ = await play.labelled()
        bare = issue.comment(play.ada, "/abort\n/aprove")
        await play.settled()
        between = await play.state(issue)
        issue.comment(play.ada, "/devflow pausse")
        issue.comment(play.ada, "/devflow abort")
        await play.settled()

        assert (between, play.emoji(bare)) == (RunState.AWAITING_APPROVAL, [])
        assert await play.state(issue) == RunState.ABORTED
        assert "Did you mean `/devflow pause`?" in play.replies(issue)[0]


async def test_a_command_without_a_run_is_answered_once_and_help_always(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue = play.issue()
        issue.comment(play.ada, "/approve")
        issue.comment(play.ada, "/assign @grace")
        await play.settled()
        issue.comment(play.ada, "/help")
        await play.settled()

        first, second = play.replies(issue)
        assert "@ada, there is no run here. The label `devflow` on an issue starts one." in first
        assert "`/revise <feedback>`" in second


async def test_in_peoples_own_pull_requests_only_the_prefix_is_heard(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        play.repository.commit("feature", {"x": "y"}, play.ada)
        pull = play.repository.open_pull(play.ada, "Mine", "feature")
        bare = pull.comment(play.ada, "/approve")
        pull.comment(play.ada, "/devflow approve")
        await play.settled()

        assert play.emoji(bare) == []
        assert len(play.replies(pull)) == 1


async def test_a_retry_on_a_closed_issue_asks_to_reopen_it(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        issue.close(play.ada)
        await play.settled()
        issue.comment(play.ada, "/retry")
        await play.settled()

        assert len(await play.runs(issue)) == 1
        assert "This issue is closed. Reopen it first." in play.replies(issue)[0].replace("this", "This", 1)


async def test_feedback_cannot_mention_people_or_forge_our_marker(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        issue.comment(play.ada, "/revise ask @grace <!-- devflow:run/x/status --> and close #7")
        await play.settled()

        for page in (issue, await play.pull(issue)):
            for comment in play.ours(page):
                body = comment.body.partition("-->")[2]
                assert "@grace" not in body
                assert "<!-- devflow:" not in body
