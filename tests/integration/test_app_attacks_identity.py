"""Attacks on who is who: repositories whose names are taken by others, installations that are not theirs, old bodies.

GitHub signs what it sends, not when it arrives nor under which header: what a delivery says about its repository may be
old by the time it is handled, and a body that somebody kept may be sent again as another event.
"""

from pathlib import Path
from typing import Any

import pytest

from engine.domain.states import RunState
from engine.store import hosted
from tests.support.conversation import conversation
from tests.support.engines import config
from tests.support.stage import Stage


async def _row(play: Stage) -> Any:
    async with play.database.read() as tx:
        return await hosted.get(tx, play.repository.id)


async def test_a_late_delivery_does_not_lead_to_another_repository_that_has_taken_the_name(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue = play.issue()
        await play.settled()
        play.github.hold()
        issue.label(play.ada, "devflow")
        late = play.github.deliveries[-1]
        play.repository.rename("octo/solutions")
        taken = play.github.repository("octo/answers", {".github/devflow.yml": config(approvers=["mallory"])})
        taken.permit(play.outsider, "admin")
        play.github.release([one for one in play.github.held if one is not late])
        await play.settled()
        play.github.release()
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert (await _row(play))["full_name"] == "octo/solutions"
        assert taken.pulls == []


async def test_a_delivery_with_a_name_that_was_taken_gives_nobody_a_right(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        play.repository.rename("octo/solutions")
        taken = play.github.repository("octo/answers", {".github/devflow.yml": config(approvers=["mallory"])})
        taken.permit(play.outsider, "admin")
        await play.settled()
        comment = issue.comment(play.outsider, "/approve")
        sent = play.github.deliveries[-1].payload
        sent["repository"] |= {"full_name": "octo/answers", "name": "answers"}
        sent["comment"]["id"] = comment.id
        play.github.send("issue_comment", sent)
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert (await _row(play))["full_name"] == "octo/solutions"


async def test_a_delivery_of_another_installation_does_not_take_the_repository_over(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        before = await _row(play)
        other = play.github.repository("eve/other")
        issue.comment(play.ada, "/approve")
        sent = play.github.deliveries[-1].payload
        await play.settled()
        sent["installation"]["id"] = other.installation_id
        play.github.send("issue_comment", sent)
        await play.settled()

        assert (await _row(play))["installation_id"] == before["installation_id"]
        assert await play.state(issue) == RunState.COMPLETED


async def test_an_installation_that_lost_a_repository_earlier_does_not_end_its_runs(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        other = play.github.repository("eve/other")
        play.github.send(
            "installation_repositories",
            {
                "action": "removed",
                "installation": {"id": other.installation_id, "account": {"login": "eve", "id": 1}},
                "repositories_added": [],
                "repositories_removed": [
                    {"id": play.repository.id, "full_name": "octo/answers", "name": "answers", "private": False}
                ],
                "sender": {"id": play.ada.id, "login": "ada", "type": "User"},
            },
        )
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert (await _row(play))["gone_at"] is None


@pytest.mark.parametrize("event", ["issues", "repository", "installation", "pull_request", "issue_comment"])
async def test_a_body_that_comes_again_as_another_event_ends_nothing(
    tmp_path: Path, database_url: str, event: str
) -> None:
    async with conversation(tmp_path, database_url, failing=("is not part of", "is not an object")) as play:
        issue, _ = await play.labelled()
        harmless = issue.comment(play.outsider, "Hm.")
        issue.delete_comment(play.outsider, harmless)
        body = play.github.deliveries[-1].payload
        assert body["action"] == "deleted"
        await play.settled()
        play.github.send(event, body)
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert (await _row(play))["gone_at"] is None
