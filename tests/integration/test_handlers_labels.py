"""A label starts a run: once, for who may, of what the issue said then. Conversations with the GitHub double."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.inbound import inbox
from engine.domain.states import RunState
from engine.store import deliveries
from tests.support.stage import CODE, Stage, stage


async def trigger_of(play: Stage, run: Any) -> dict[str, Any]:
    """The frozen trigger of a run."""
    metadata = (await play.host.engine.inputs(run["run_id"]))["metadata"]
    return dict(metadata["trigger"])


async def test_a_maintainers_label_starts_a_run_and_says_so_with_emoji_alone(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()

        assert play.emoji(issue) == ["eyes", "rocket"]
        assert play.replies(issue) == []
        assert (run["state"], run["number"]) == (RunState.AWAITING_APPROVAL, 1)
        inputs = await play.host.engine.inputs(run["run_id"])
        assert (inputs["metadata"]["requested_by"], inputs["metadata"]["requested_by_id"]) == ("ada", play.ada.id)


async def test_the_same_labelling_is_one_run_however_often_and_under_whatever_guid_it_comes(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        (labelled,) = [one for one in play.github.deliveries if one.payload.get("action") == "labeled"]

        for new_guid in (False, False, True, True):
            play.github.redeliver(labelled, new_guid=new_guid)
        await play.settled()

        assert len(await play.runs(issue)) == 1
        assert play.emoji(issue) == ["eyes", "rocket"]
        assert play.replies(issue) == []


@pytest.mark.parametrize(
    ("label", "workflow"),
    [("devflow", "small@1"), ("DevFlow", "small@1"), ("devflow:docs", "docs@1"), ("Please write", "docs@1")],
)
async def test_a_label_names_the_workflow_or_leaves_it_to_the_configuration(
    tmp_path: Path, database_url: str, label: str, workflow: str
) -> None:
    async with stage(tmp_path, database_url, labels={"please write": "docs"}) as play:
        issue = play.issue()
        issue.label(play.ada, label)
        await play.until(lambda: "rocket" in play.emoji(issue))

        assert (await play.run(issue))["workflow"] == workflow


async def test_other_labels_are_nobodys_business(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue = play.issue()
        issue.label(play.ada, "bug")
        issue.label(play.ada, "devflowers")
        await play.settled()

        assert (await play.runs(issue), play.emoji(issue), play.ours(issue)) == ([], [], [])


async def test_a_workflow_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue = play.issue()
        issue.label(play.ada, "devflow:smal")
        await play.settled()

        (reply,) = play.replies(issue)
        assert "@ada, nothing was started." in reply
        assert "smal" in reply and "small" in reply and "development" in reply
        assert play.emoji(issue) == ["eyes", "confused"]
        assert await play.runs(issue) == []


async def test_somebody_who_may_triage_is_told_once_who_may_start(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        trent = play.github.person("trent")
        play.repository.permit(trent, "triage")
        issue = play.issue()

        issue.label(trent, "devflow")
        issue.label(trent, "devflow:small")
        await play.settled()

        (reply,) = play.replies(issue)
        assert "@trent, nothing was started: Whoever has write permission on this repository may start a run." in reply
        assert play.emoji(issue) == ["eyes", "confused"]
        assert await play.runs(issue) == []


async def test_an_outsider_whose_form_puts_the_label_on_gets_no_run_and_no_answer(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue = play.issue()
        issue.label(play.outsider, "devflow")
        await play.settled()

        assert (await play.runs(issue), play.emoji(issue), play.ours(issue)) == ([], [], [])


async def test_an_approver_on_the_list_may_start_without_write_permission(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, approvers=["Mallory"]) as play:
        issue, run = await play.labelled(by=play.outsider)

        assert run["state"] == RunState.AWAITING_APPROVAL
        assert play.emoji(issue) == ["eyes", "rocket"]


async def test_a_bots_label_starts_nothing(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue = play.issue()
        issue.label(play.github.app.bot, "devflow")
        await play.settled()

        assert await play.runs(issue) == []
        assert play.ours(issue) == []


async def test_a_closed_issue_starts_nothing_and_says_why(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue = play.issue()
        issue.close(play.ada)
        issue.label(play.ada, "devflow")
        await play.settled()

        (reply,) = play.replies(issue)
        assert "because this issue is closed" in reply
        assert await play.runs(issue) == []


async def test_an_issue_that_was_closed_before_its_label_is_handled_starts_nothing(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        play.github.hold()
        issue = play.issue()
        issue.label(play.ada, "devflow")
        issue.close(play.ada)
        held = play.github.held
        play.github.release(list(reversed(held)))
        await play.settled()

        assert await play.runs(issue) == []


async def test_a_label_that_is_off_again_when_it_is_handled_starts_nothing(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        play.github.hold()
        issue = play.issue()
        issue.label(play.ada, "devflow")
        issue.unlabel(play.ada, "devflow")
        play.github.release()
        await play.settled()

        assert (await play.runs(issue), play.ours(issue), play.emoji(issue)) == ([], [], [])


async def test_the_issue_counts_as_it_was_when_the_label_was_put_on(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        play.github.hold()
        issue = play.issue("Before", "As it was.")
        mine = issue.comment(play.ada, "Mind the limits.")
        issue.comment(play.outsider, "Me too.")
        issue.comment(play.github.app.bot, "beep")
        issue.label(play.ada, "devflow")
        issue.edit(play.outsider, title="After", body="As it is now: rm -rf.")
        play.github.release()
        await play.settled()

        trigger = await trigger_of(play, await play.run(issue))
        assert (trigger["title"], trigger["body"]) == ("Before", "As it was.")
        assert (trigger["author"], trigger["author_id"]) == ("mallory", play.outsider.id)
        assert [(one["author"], one["permission"], one["body"]) for one in trigger["comments"]] == [
            ("ada", "write", "Mind the limits."),
            ("mallory", trigger["permission"], "Me too."),
        ]
        assert trigger["comments"][0]["comment_id"] == mine.id
        assert trigger["permission"] in ("none", "read")


async def test_a_broken_configuration_is_answered_with_line_and_fix(tmp_path: Path, database_url: str) -> None:
    broken = {".github/devflow.yml": "checks: {}\nworkflow: small\non_conflict: maybe\n"}
    async with stage(tmp_path, database_url, files=broken) as play:
        issue = play.issue()
        issue.label(play.ada, "devflow")
        issue.label(play.ada, "bug")
        await play.settled()

        (reply,) = play.replies(issue)
        assert "`.github/devflow.yml`, line 3" in reply
        assert "maybe" in reply
        assert "reject, queue, interrupt, rollback" in reply
        assert play.emoji(issue) == ["eyes", "confused"]
        assert await play.runs(issue) == []


@pytest.mark.parametrize(
    ("text", "label", "said"),
    [
        ("labels: {robot: small}\nnonsense: 1\n", "Robot", "`nonsense`"),
        ("labels: {robot: small]\n", "Robot", "`.github/devflow.yml`, line 1"),
        (None, "devflow", ".github/devflow.yml cannot be read: it is a folder"),
        ("# " + 1_200_000 * "x", "devflow", ".github/devflow.yml cannot be read: it is no ordinary file"),
    ],
    ids=["a value", "the syntax", "a folder", "huge"],
)
async def test_a_broken_configuration_is_answered_wherever_a_label_may_be_meant(
    tmp_path: Path, database_url: str, text: str | None, label: str, said: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        path = ".github/devflow.yml"
        files = {path: None, f"{path}/robot": "small"} if text is None else {path: text}
        play.repository.commit("main", files, play.ada)
        issue = play.issue()
        issue.label(play.ada, label)
        issue.label(play.ada, "bot")
        await play.settled()

        (reply,) = play.replies(issue)
        assert said in reply
        assert play.emoji(issue) == ["eyes", "confused"]
        assert await play.runs(issue) == []


async def test_an_issue_text_cannot_mention_or_close_in_a_reply(tmp_path: Path, database_url: str) -> None:
    label = "devflow:@everyone-closes-#1"
    async with stage(tmp_path, database_url) as play:
        issue = play.issue()
        issue.label(play.ada, label)
        await play.settled()

        (reply,) = play.replies(issue)
        assert "@everyone" not in reply
        assert "#1" not in reply


async def test_a_second_label_is_refused_while_a_run_is_live(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        issue.label(play.ada, "devflow:small")
        await play.settled()

        assert len(await play.runs(issue)) == 1
        (reply,) = play.replies(issue)
        assert "no second run was started: run 1" in reply
        assert "waits for a decision" in reply
        assert "`/abort`" in reply


async def test_a_second_label_queues_a_run_where_the_configuration_says_so(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, on_conflict="queue") as play:
        issue, first = await play.labelled()
        issue.label(play.ada, "devflow:small")
        await play.settled()

        assert [row["state"] for row in await play.runs(issue)] == [RunState.AWAITING_APPROVAL, RunState.CREATED]
        (reply,) = play.replies(issue)
        assert "run 2" in reply and "begins when run 1" in reply

        issue.comment(play.ada, "/abort")
        await play.settled()

        assert [row["state"] for row in await play.runs(issue)] == [RunState.ABORTED, RunState.AWAITING_APPROVAL]
        assert first["number"] == 1


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_a_second_label_takes_over_where_the_configuration_says_so(
    tmp_path: Path, database_url: str, policy: str
) -> None:
    async with stage(tmp_path, database_url, on_conflict=policy) as play:
        issue, first = await play.labelled()
        issue.label(play.ada, "devflow:small")
        await play.settled()

        assert [row["state"] for row in await play.runs(issue)] == [RunState.ABORTED, RunState.AWAITING_APPROVAL]
        (reply,) = play.replies(issue)
        assert "run 1" in reply and "is stopped, and run 2" in reply
        assert ("Its branch is deleted." in reply) == (policy == "rollback")
        assert (first["branch"] in play.repository.branches()) == (policy == "interrupt")


async def test_a_label_taken_off_ends_the_run_where_the_configuration_says_so(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url, abort_on_unlabel=True) as play:
        issue, _ = await play.labelled()
        issue.label(play.ada, "bug")
        issue.unlabel(play.ada, "bug")
        await play.settled()
        before = await play.state(issue)
        for command in ("/abort", "/retry"):
            issue.comment(play.ada, command)
            await play.settled()
        issue.unlabel(play.ada, "devflow")
        await play.settled()

        assert before == RunState.AWAITING_APPROVAL
        assert [row["state"] for row in await play.runs(issue)] == [RunState.ABORTED, RunState.ABORTED]


async def test_a_label_taken_off_means_nothing_by_default(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        issue.unlabel(play.ada, "devflow")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL


async def test_an_empty_issue_is_answered(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, files={"answer.py": CODE}) as play:
        issue = play.issue("\u200b", "")
        issue.label(play.ada, "devflow")
        await play.settled()

        assert "Write what is wanted into the issue" in play.replies(issue)[0]


async def test_the_cassette_of_the_server_is_frozen_with_the_run(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        _, run = await play.labelled()

        metadata = (await play.host.engine.inputs(run["run_id"]))["metadata"]
        assert metadata["cassette"]["name"] == "recorded.yaml"
        assert json.loads(metadata["cassette"]["body"])["version"] == 1


@pytest.mark.parametrize("policy", ["reject", "queue", "interrupt", "rollback"])
async def test_a_crash_right_after_the_start_changes_nothing_about_what_is_said(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    real, crashed = deliveries.decide, []

    async def decide(tx: Any, delivery_id: str, *rest: Any) -> None:
        if not crashed and len(await play.runs(issue)) + (policy == "reject") == 2:
            crashed.append(delivery_id)
            raise RuntimeError("as if the process had been killed here")
        await real(tx, delivery_id, *rest)

    monkeypatch.setattr(inbox, "_DELAY_FIRST", timedelta(seconds=0.2))
    async with stage(tmp_path, database_url, on_conflict=policy) as play:
        issue, _ = await play.labelled()
        monkeypatch.setattr(deliveries, "decide", decide)
        issue.label(play.ada, "devflow:small")
        await play.settled()

        said = {"reject": "no second run", "queue": "begins when run 1"}.get(policy, "is stopped, and run 2")
        (reply,) = play.replies(issue)
        assert crashed
        assert said in reply
        assert len(await play.runs(issue)) == (1 if policy == "reject" else 2)
