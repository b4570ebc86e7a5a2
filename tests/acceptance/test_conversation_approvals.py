"""Who decides a gate, about which content, and when: everything that must not pass for an approval, and what does."""

from pathlib import Path

import pytest

from engine.domain.states import RunState
from tests.github_double import Issue, User
from tests.support.conversation import (
    at_work,
    conversation,
    delivery_of,
    headline,
    held_up,
    let_go,
    shown,
)
from tests.support.engines import phase
from tests.support.stage import PHASES, TURNS, Stage

TWO_GATES = (PHASES[0], phase("change", gates=["change_approval"]))
WAITS = RunState.AWAITING_APPROVAL


def writer(play: Stage, login: str, role: str = "write") -> User:
    """Somebody else with a role in the repository."""
    person = play.github.person(login)
    play.repository.permit(person, role)
    return person


def bot(play: Stage, login: str) -> User:
    """Another App's bot, that may write."""
    made = writer(play, login)
    made.type = "Bot"
    return made


async def request_states(play: Stage, issue: Issue) -> list[str]:
    """What became of the requests of the issue's newest run."""
    return [str(row["state"]) for row in await play.host.engine.requests((await play.run(issue))["run_id"])]


async def edited(play: Stage, issue: Issue, old: str, new: str) -> str:
    """What ada pushes to the run's branch when she changes the specification by hand; returns the commit."""
    run = await play.run(issue)
    path = f".devflow/runs/{run['run_id']}/spec.json"
    before = play.repository.read(run["branch"], path)
    assert before is not None and old in before
    return play.repository.commit(run["branch"], {path: before.replace(old, new)}, play.ada, "By hand, fixes #1 @octo")


async def test_strangers_triagers_and_bots_neither_start_nor_decide(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        trent, helper = writer(play, "trent", "triage"), bot(play, "helper[bot]")
        quiet = play.issue("By a form")
        quiet.label(play.outsider, "devflow")
        by_bot = play.issue("By a bot")
        by_bot.label(helper, "devflow")
        by_bot.label(play.github.app.bot, "devflow:small")
        by_hand = play.issue("By hand")
        by_hand.label(trent, "devflow")
        await play.settled()
        assert [await play.runs(issue) for issue in (quiet, by_bot, by_hand)] == [[], [], []]
        assert play.ours(quiet) == play.ours(by_bot) == []
        (reply,) = play.ours(by_hand)
        assert "@trent, nothing was started: Whoever has write permission" in reply.body

        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        for person in (play.outsider, trent, helper):
            issue.comment(person, "/approve")
            issue.comment(person, "/abort")
            pull.review(person, "approve", "/approve")
            pull.review(person, "request_changes", "Not like this.")
            pull.comment(person, "/reject")
        await play.settled()
        assert (await play.state(issue), await request_states(play, issue)) == (WAITS, ["pending"])
        addressed = sorted(reply.split("\n")[1].partition(",")[0] for reply in play.replies(issue) + play.replies(pull))
        assert addressed == ["@mallory", "@mallory", "@trent", "@trent"]  # each once a page

        # the right counts as it is when somebody decides
        play.repository.permit(trent, "write")
        pull.review(trent, "approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED


async def test_an_answer_about_an_old_version_does_not_count_and_says_which_is_asked_about(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        old = pull.head_sha
        issue.comment(play.ada, "/revise more")
        await play.settled()
        new = pull.head_sha

        review = pull.review(play.ada, "approve", commit_id=old)
        stale = pull.review(play.ada, "request_changes", "Too long.", commit_id=old)
        comment = issue.comment(play.ada, f"/approve {old[:9]}")
        await play.settled()
        assert (await play.state(issue), await request_states(play, issue)) == (WAITS, ["revised", "pending"])
        for thing in (review, stale, comment):
            assert play.emoji(thing) == ["eyes", "confused"]
        for reply in play.replies(pull) + play.replies(issue):
            assert new[:12] in reply

        issue.comment(play.ada, f"/approve {new[:9]}")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED


async def test_an_edit_by_hand_is_asked_about_anew_and_approved_by_who_has_seen_it(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        seen = pull.head_sha

        # she approves in a comment while her edit is not yet asked about: that is about what she had read
        play.github.hold()
        await edited(play, issue, "Change the constant", "Compute it")
        unseen = issue.comment(play.ada, "/approve")
        play.github.release([delivery_of(play, "issue_comment", unseen)])
        await play.until(lambda: "confused" in play.emoji(unseen))
        play.github.release()
        await play.settled()
        assert (await play.state(issue), await request_states(play, issue)) == (WAITS, ["superseded", "pending"])
        old, new = shown(play, run, "gate")
        assert "Compute it" in new.body and "Overtaken" in headline(old)
        assert len(play.replies(issue)) == 1

        # a review of the version before her edit does not count either, one of the edit does
        pull.review(play.ada, "approve", commit_id=seen)
        await play.settled()
        assert await play.state(issue) == WAITS
        pull.review(play.ada, "approve")
        await play.settled()
        assert (await play.state(issue), await request_states(play, issue)) == (
            RunState.COMPLETED,
            ["superseded", "approved"],
        )
        assert headline(new) == "✅ Approved by ada: Phase spec"


async def test_a_review_of_an_edit_counts_though_it_was_not_asked_about_yet(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        play.github.hold()
        await edited(play, issue, "Change the constant", "Compute it")
        review = pull.review(play.ada, "approve")
        play.github.release([delivery_of(play, "pull_request_review", review)])
        await play.until(lambda: "rocket" in play.emoji(review))
        play.github.release()
        await play.settled()

        assert (await play.state(issue), await request_states(play, issue)) == (
            RunState.COMPLETED,
            ["superseded", "approved"],
        )


async def test_an_edit_that_is_no_valid_artifact_is_explained_and_cannot_be_approved(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        await edited(play, issue, '"risks": []', '"risks": "none, @octo"')
        await play.settled()
        (reply,) = play.replies(issue)
        assert "@ada, the artifact of phase spec was changed" in reply and "risks" in reply
        invalid = pull.head_sha
        (check,) = play.repository.checks(invalid)
        assert (check.name, check.conclusion) == ("devflow", "action_required")
        assert "not valid" in (check.summary or "") and run["head_sha"] in (check.summary or "")

        for answer in (pull.review(play.ada, "approve"), issue.comment(play.ada, "/approve")):
            await play.settled()
            assert play.emoji(answer) == ["eyes", "confused"]
        assert (await play.state(issue), await request_states(play, issue)) == (WAITS, ["pending"])

        # she mends it, and the question is about what she made of it
        await edited(play, issue, '"risks": "none, @octo"', '"risks": ["It may be slow."]')
        await play.settled()
        assert "It may be slow." in shown(play, run, "gate")[-1].body
        assert [play.repository.checks(sha)[0].conclusion for sha in (invalid, pull.head_sha)] == [
            "neutral",
            "action_required",
        ]
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED


async def test_an_updated_branch_leaves_the_question_where_it_leaves_the_content(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url, phases=TWO_GATES) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)

        # the specification is the same with whatever else the default branch brings
        play.repository.commit("main", {"other.txt": "new\n"}, play.ada)
        pull.update_branch(play.ada)
        await play.settled()
        assert await request_states(play, issue) == ["pending"]
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await request_states(play, issue) == ["approved", "pending"]

        # the code is not: the tree is another one, and the question is asked anew
        play.repository.commit("main", {"other.txt": "newer\n"}, play.ada)
        seen = pull.head_sha
        pull.update_branch(play.ada)
        early = pull.review(play.ada, "approve", commit_id=seen)
        await play.settled()
        assert await request_states(play, issue) == ["approved", "superseded", "pending"]
        assert play.emoji(early) == ["eyes", "confused"]

        # a merge that leaves the tree as it was leaves the question too
        play.repository.commit("main", {"passing.txt": "x\n"}, play.ada)
        play.repository.commit("main", {"passing.txt": None}, play.ada)
        seen = pull.head_sha
        pull.update_branch(play.ada)
        pull.review(play.ada, "approve", commit_id=seen)
        await play.settled()
        assert (await play.state(issue), await request_states(play, issue)) == (
            RunState.COMPLETED,
            ["approved", "superseded", "approved"],
        )


async def test_two_approvals_are_two_people_however_they_say_it(tmp_path: Path, database_url: str) -> None:
    rules = {"required_approvals": 2, "approvers": ["mallory", "nobody-yet"]}
    async with conversation(tmp_path, database_url, **rules) as play:
        trent = writer(play, "trent", "triage")
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        pull.review(play.ada, "approve")
        await play.settled()
        (gate,) = shown(play, run, "gate")
        assert "so far 1: ada" in gate.body
        for again in (issue.comment(play.ada, "/approve"), pull.review(play.ada, "approve", "Really.")):
            await play.settled()
            assert play.emoji(again)[-1] == "confused"
        trent_says = issue.comment(trent, "/approve")
        await play.settled()
        assert (await play.state(issue), play.emoji(trent_says)) == (WAITS, ["eyes", "confused"])
        assert "1 of 2 approvals" in play.replies(issue)[0]
        assert "and mallory, may decide here" in play.replies(issue)[1]
        assert "so may mallory; no account of nobody-yet is known from when the run began" in gate.body

        # somebody on the list needs no permission of their own
        issue.comment(play.outsider, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        assert headline(gate) == "✅ Approved by ada and mallory: Phase spec"


async def test_who_asked_for_a_run_approves_it_only_where_that_is_wanted(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url, requester_may_approve=False) as play:
        grace = writer(play, "grace", "maintain")
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        assert headline(shown(play, run, "gate")[0]).startswith("🟡 @ada, your run needs somebody else's decision")
        for own in (issue.comment(play.ada, "/approve"), pull.review(play.ada, "approve")):
            await play.settled()
            assert play.emoji(own) == ["eyes", "confused"]
        assert "whoever asked for a run does not approve it" in play.replies(issue)[0]
        # but may send it back
        issue.comment(play.ada, "/revise shorter")
        await play.settled()
        assert await request_states(play, issue) == ["revised", "pending"]
        pull.review(grace, "approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED


@pytest.mark.parametrize("late", [False, True])
async def test_an_approval_while_the_phase_is_at_work_never_counts_for_what_comes_of_it(
    tmp_path: Path, database_url: str, late: bool
) -> None:
    turns = {**TURNS, "change/1/1": [[held_up(tmp_path)], *TURNS["change/1/1"]]}
    async with conversation(tmp_path, database_url, phases=TWO_GATES, turns=turns) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        issue.comment(play.ada, "/approve")
        await at_work(play, tmp_path)

        if late:
            play.github.hold()
        early = [issue.comment(play.ada, "/approve"), pull.comment(play.ada, "/approve")]
        review = pull.review(play.ada, "approve")
        kept = [*(delivery_of(play, "issue_comment", one) for one in early)]
        kept.append(delivery_of(play, "pull_request_review", review))
        if late:
            play.github.release([one for one in play.github.held if one not in kept])
        else:
            await play.until(lambda: all("confused" in play.emoji(one) for one in [*early, review]))
        let_go(tmp_path)
        run_id = (await play.run(issue))["run_id"]
        while len(await play.host.engine.requests(run_id)) < 2 or not play.repository.checks(pull.head_sha):
            play.github.release([one for one in play.github.held if one not in kept])
            await play.settled()
        play.github.release()
        await play.settled()

        assert (await play.state(issue), await request_states(play, issue)) == (WAITS, ["approved", "pending"])
        for one in [*early, review]:
            assert play.emoji(one) == ["eyes", "confused"]
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
