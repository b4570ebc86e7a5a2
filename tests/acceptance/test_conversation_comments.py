"""What is a command in a comment and what only looks like one, several at once, near misses, and the prefix."""

from pathlib import Path

from engine.domain.states import RunState
from tests.support.conversation import conversation
from tests.support.engines import phase
from tests.support.stage import PHASES

TWO_GATES = (PHASES[0], phase("change", gates=["change_approval"]))
MAIL = "On Mon, 2 Mar 2026 at 10:11, Devflow <notifications@github.com>"
LOOK_ALIKES = (
    "> /abort\n",
    "> I would say\n> /abort\n/lgtm",
    "```\n/abort\n```",
    "~~~sh\n/abort\n~~~\nThat is how it is typed.",
    "    /abort\n",
    "`/abort` ends it, I think.",
    "I would not /abort this.",
    "<!-- /abort -->",
    "<!--\n/abort\n-->\nAll good.",
    "| a | b |\n| --- | --- |\n| /abort | x |",
    "[x](\n/abort\n)",
    "\\/abort",
    "//abort",
    "/etc/hosts is not there.\n/home/abort",
    f"Thanks!\n\n{MAIL} wrote:\n\n> Answer the gate\n> /abort\n",
    f"Thanks!\n\n{MAIL}\nwrote:\n\n/abort ends the run.\n/approve",
    "Ok\n\n-----Original Message-----\nFrom: Devflow\n/abort\n/approve",
    "<!-- devflow:run/0/status -->\n/abort",
)


async def test_what_only_looks_like_a_command_does_nothing_and_gets_no_answer(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url, phases=TWO_GATES) as play:
        issue, run = await play.labelled()
        harmless = [issue.comment(play.ada, body) for body in LOOK_ALIKES]
        # what is edited into a command was none when it was written
        edited = issue.comment(play.ada, "Hm.")
        issue.edit_comment(play.ada, edited, "/abort")
        issue.delete_comment(play.ada, issue.comment(play.ada, "Never mind."))
        review = (await play.pull(issue)).review(play.ada, "comment", "> /approve\n\nI am not sure.")
        await play.settled()
        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert [play.emoji(one) for one in [*harmless, edited, review]] == [[]] * (len(harmless) + 2)
        assert play.replies(issue) == play.replies(await play.pull(issue)) == []

        # the same people can still say it
        by_mail = issue.comment(play.ada, f"/approve\n\n{MAIL} wrote:\n\n> /abort ends it\n")
        await play.settled()
        assert play.emoji(by_mail) == ["eyes", "rocket"]
        states = [row["state"] for row in await play.host.engine.requests(run["run_id"])]
        assert states == ["approved", "pending"]

        # what was a command stays one, whatever its comment says later
        issue.edit_comment(play.ada, by_mail, "/abort")
        issue.delete_comment(play.ada, by_mail)
        await play.settled()
        assert await play.state(issue) == RunState.AWAITING_APPROVAL


async def test_commands_of_one_comment_are_carried_out_in_order_until_one_is_refused(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        near = issue.comment(play.ada, "/aprove\n/abort")
        await play.settled()
        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        (reply,) = play.replies(issue)
        assert "Did you mean `/approve`?" in reply
        assert "`/abort` further down in the same comment was not carried out" in reply
        assert play.emoji(near) == ["eyes", "confused"]

        refused = issue.comment(play.ada, "/pause\n/status\n/resume\n/abort")
        await play.settled()
        # it has paused with a question, so there is nothing to resume, and what stands below is left
        assert await play.state(issue) == RunState.PAUSED
        assert play.emoji(refused) == ["eyes", "confused"]
        (*_, reply) = play.replies(issue)
        assert "has paused" in reply and "`/approve`" in reply and "`/abort` further down" in reply

        both = issue.comment(play.ada, "Fine with me.\n/APPROVE.\n/status\n/help")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        assert play.emoji(both) == ["eyes", "rocket"]
        assert len(play.replies(issue)) == 3
        assert [row["state"] for row in await play.host.engine.requests(run["run_id"])] == ["approved"]


async def test_where_the_prefix_is_wanted_bare_words_are_other_bots(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url, commands="prefixed") as play:
        issue, run = await play.labelled()
        (gate,) = [one for one in play.ours(await play.pull(issue)) if "please decide" in one.body]
        assert "`/devflow approve`" in gate.body and "`/approve" not in gate.body
        bare = issue.comment(play.ada, "/approve\n/abort\n/aprove")
        await play.settled()
        assert (await play.state(issue), play.emoji(bare)) == (RunState.AWAITING_APPROVAL, [])

        issue.comment(play.ada, "/devflow aprove")
        await play.settled()
        issue.comment(play.ada, "/devflow")
        await play.settled()
        near, listed = play.replies(issue)
        assert "Did you mean `/devflow approve`?" in near
        assert "`/devflow revise <feedback>`" in listed

        issue.comment(play.ada, "/approve\n/devflow revise Say more.\n/approve of it then?")
        await play.settled()
        first, second = await play.host.engine.requests(run["run_id"])
        assert (first["state"], second["state"]) == ("revised", "pending")
        (decision,) = await play.host.engine.decisions(first["request_id"])
        assert decision["note"] == "Say more.\n/approve of it then?"
        issue.comment(play.ada, "/devflow approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
