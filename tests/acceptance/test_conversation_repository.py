"""What happens around a run: its configuration, its repository's name, people's logins, and the App's own place."""

from pathlib import Path

from engine.domain.states import RunState
from tests.support.conversation import a_minute_later, at_work, conversation, held_up, let_go, shown
from tests.support.engines import config
from tests.support.stage import TURNS

BROKEN = "checks: {}\nworkflow: small\non_conflict: maybe\nbudget_usd: much\n"


async def test_a_broken_configuration_is_answered_and_once_mended_the_label_starts_a_run(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url, files={".github/devflow.yml": BROKEN}) as play:
        issue = play.issue()
        issue.label(play.ada, "devflow")
        await play.settled()
        (reply,) = play.replies(issue)
        assert "`.github/devflow.yml`, line 3" in reply and "maybe" in reply and "reject, queue" in reply
        assert "`.github/devflow.yml`, line 4" in reply
        assert play.emoji(issue) == ["eyes", "confused"]
        assert (await play.runs(issue), play.repository.pulls) == ([], [])
        assert list(play.repository.branches()) == ["main"]

        # a label that asks for a workflow which is not there
        play.repository.commit("main", {".github/devflow.yml": config()}, play.ada)
        a_minute_later(play)
        issue.label(play.ada, "devflow:smal")
        await play.settled()
        assert "small" in play.replies(issue)[1] and await play.runs(issue) == []

        # and the right one
        issue.unlabel(play.ada, "devflow")
        a_minute_later(play)
        issue.label(play.ada, "devflow")
        await play.settled()
        run = await play.run(issue)
        assert (run["number"], run["state"]) == (1, RunState.AWAITING_APPROVAL)
        assert len(play.replies(issue)) == 2

        # a run keeps the rules of its start, however the file is broken afterwards
        play.repository.commit("main", {".github/devflow.yml": BROKEN}, play.ada)
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED


async def test_a_repository_that_is_renamed_while_an_agent_is_at_work_keeps_its_run(
    tmp_path: Path, database_url: str
) -> None:
    turns = {**TURNS, "change/1/1": [[held_up(tmp_path)], *TURNS["change/1/1"]]}
    async with conversation(tmp_path, database_url, turns=turns) as play:
        issue, run = await play.labelled()
        issue.comment(play.ada, "/approve")
        await at_work(play, tmp_path)
        play.repository.rename("octo/replies", play.ada)
        let_go(tmp_path)
        await play.settled()

        assert await play.state(issue) == RunState.COMPLETED
        (end,) = shown(play, run, "end")
        assert f"{play.github.server_url}/octo/replies/" in end.body

        # another repository that gets the old name is another repository
        other = play.github.repository("octo/answers", {".github/devflow.yml": config()})
        other.permit(play.ada, "write")
        theirs = other.open_issue(play.ada, "Mine", "Something else.")
        theirs.comment(play.ada, "/retry")
        await play.settled()
        assert len(await play.runs(issue)) == 1
        assert "there is no run here" in theirs.comments[-1].body


async def test_a_person_stays_the_same_under_another_login_and_the_login_does_not_make_the_person(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url, required_approvals=2) as play:
        grace = play.github.person("grace")
        play.repository.permit(grace, "write")
        issue, _ = await play.labelled()
        issue.comment(play.ada, "/approve")
        await play.settled()

        # ada is called lovelace now: she has approved already
        play.github.rename_person(play.ada, "lovelace")
        again = issue.comment(play.ada, "/approve")
        await play.settled()
        assert play.emoji(again) == ["eyes", "confused"]
        assert await play.state(issue) == RunState.AWAITING_APPROVAL

        # and somebody else takes her old login
        usurper = play.github.person("ada")
        taken = issue.comment(usurper, "/approve")
        await play.settled()
        assert play.emoji(taken) == ["eyes", "confused"]
        assert await play.state(issue) == RunState.AWAITING_APPROVAL

        # a comment of hers that was sent before she was renamed names a login that is nobody's she is
        play.github.hold()
        late = issue.comment(grace, "/approve")
        play.github.rename_person(grace, "hopper")
        play.github.release()
        await play.settled()
        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert play.emoji(late) == ["eyes", "confused"]
        issue.comment(grace, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED


async def test_a_place_on_the_list_of_approvers_stays_with_the_person_and_not_with_the_login(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url, approvers=["Carol", "nobody-yet"]) as play:
        carol = play.github.person("carol")
        issue, _ = await play.labelled()
        play.github.rename_person(carol, "carola")

        for taken in ("carol", "nobody-yet"):
            said = issue.comment(play.github.person(taken), "/approve")
            await play.settled()
            assert play.emoji(said) == ["eyes", "confused"]
        assert "on this repository, and Carol, may decide here" in play.replies(issue)[0]
        assert await play.state(issue) == RunState.AWAITING_APPROVAL

        said = issue.comment(carol, "/approve")
        await play.settled()
        assert play.emoji(said) == ["eyes", "rocket"]
        assert await play.state(issue) == RunState.COMPLETED


async def test_an_app_that_is_uninstalled_at_work_stops_and_serves_again_once_it_is_back(
    tmp_path: Path, database_url: str
) -> None:
    turns = {**TURNS, "change/1/1": [[held_up(tmp_path)], *TURNS["change/1/1"]]}
    async with conversation(tmp_path, database_url, turns=turns, failing=("github_unavailable",)) as play:
        issue, run = await play.labelled()
        issue.comment(play.ada, "/approve")
        await at_work(play, tmp_path)
        play.github.uninstall(play.repository)
        await play.settled()
        assert await play.state(issue) == RunState.ABORTED
        before = len(play.github.requests)
        issue.comment(play.ada, "/retry")  # nobody hears it
        await play.settled()
        assert len(play.github.requests) == before

        play.github.install(play.repository)
        await play.settled()
        issue.comment(play.ada, "/retry")
        await play.settled()
        again = await play.run(issue)
        assert (again["number"], again["retry_of"], again["state"]) == (2, run["run_id"], RunState.COMPLETED)
