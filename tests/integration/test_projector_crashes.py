"""A projector that dies, or whose answers are lost, anywhere: afterwards there is one of everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, update

from app.github.faults import RetryLater
from app.surface.reading import read_view
from app.surface.view import RunView
from engine.store.database import Database
from engine.store.host_tables import surfaces
from tests.github_double import Comment
from tests.support.fate import Death, fate
from tests.support.shown import Stage, stage

SOON = timedelta(minutes=5).total_seconds()


@dataclass
class Story:
    """A run at its gate and at its end, as views that can be shown again and again."""

    on: Stage
    run_id: UUID
    at_gate: RunView
    at_end: RunView

    async def forget(self) -> None:
        """Make GitHub and the rows as if nothing had ever been shown."""
        self.on.github.clear_plans()
        issue = self.on.hub.issues[0]
        self.on.hub.numbered = {issue.number: issue}
        self.on.hub.check_runs.clear()
        issue._comments.clear()
        async with self.on.database.transaction() as tx:
            await tx.execute(delete(surfaces))

    async def show(self, view: RunView) -> Any:
        """Show a view, as a projector that has just been started."""
        return await self.on.projector().show(view, await self.on.known())

    async def show_again_after(self, view: RunView) -> None:
        """Show a view after something went wrong, until nothing is left to do."""
        for _ in range(4):
            if await self.show(view) is None:
                return
            self.on.clock.step(SOON)
        pytest.fail("it never comes to rest")

    def look(self) -> dict[str, Any]:
        """Return all that people see, without what differs from one time to the next."""
        (pull,) = self.on.hub.pulls
        return {
            "pull": (pull.title, pull.body, pull.draft, pull.state),
            "comments": sorted(_shown(comment) for comment in self.on.comments("")),
            "checks": sorted((run.head_sha, run.status, run.conclusion) for run in self.on.hub.check_runs),
        }


def _shown(comment: Comment) -> tuple[str, str, str]:
    body = comment.body.replace(f"issuecomment-{comment.id}", "issuecomment")
    return body.split("\n")[0], body.split("\n")[1], str(comment.minimized_reason)


@asynccontextmanager
async def story(tmp_path: Path, database: Database) -> AsyncIterator[Story]:
    """Yield a run that has gone to its end without being shown."""
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        gate = await read_view(database, run_id)
        await on.answer(run_id, by="bob", by_id=2)
        await on.drive(run_id)
        told = Story(on, run_id, gate, await read_view(database, run_id))
        await told.show(gate)  # so that the App knows its own name and has its token
        await told.forget()
        yield told


async def test_a_death_at_any_point_of_the_first_showing_leaves_one_of_everything(
    tmp_path: Path, database: Database
) -> None:
    async with story(tmp_path, database) as told:
        with fate() as alive:
            await told.show(told.at_gate)
        wanted, points = told.look(), len(alive.passed)
        assert points > 20
        assert len(wanted["comments"]) == 2

        for point in range(points):
            await told.forget()
            with fate(point), pytest.raises(Death):
                await told.show(told.at_gate)
            await told.show_again_after(told.at_gate)

            assert told.look() == wanted, f"after a death at point {point}, {alive.passed[point]}"
        before = len(told.on.writes)
        await told.show(told.at_gate)
        assert len(told.on.writes) == before


async def test_a_death_at_any_point_of_the_last_showing_leaves_one_of_everything(
    tmp_path: Path, database: Database
) -> None:
    async with story(tmp_path, database) as told:
        await told.show(told.at_gate)
        told.on.clock.step(SOON)
        with fate() as alive:
            await told.show(told.at_end)
        wanted, points = told.look(), len(alive.passed)
        assert points > 20
        assert len(wanted["comments"]) == 3

        for point in range(points):
            await told.forget()
            await told.show(told.at_gate)
            told.on.clock.step(SOON)
            with fate(point), pytest.raises(Death):
                await told.show(told.at_end)
            await told.show_again_after(told.at_end)

            assert told.look() == wanted, f"after a death at point {point}, {alive.passed[point]}"


CALLS = (
    ("POST", "*/pulls"),
    ("POST", "*/comments"),
    ("POST", "*/check-runs"),
    ("PATCH", "*/issues/comments/*"),
    ("PATCH", "*/pulls/*"),
    ("PATCH", "*/check-runs/*"),
    ("POST", "/graphql"),
)


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_a_lost_call_or_a_lost_answer_leaves_one_of_everything(
    tmp_path: Path, database: Database, lost: str
) -> None:
    async with story(tmp_path, database) as told:
        await told.show(told.at_gate)
        told.on.clock.step(SOON)
        await told.show(told.at_end)
        wanted = told.look()

        for method, path in CALLS:
            await told.forget()
            fault = told.on.github.plan(method, path, drop=lost)
            for view in (told.at_gate, told.at_end):
                for _ in range(2):
                    with suppress(RetryLater):
                        await told.show(view)
                    told.on.clock.step(SOON)
            await told.show_again_after(told.at_end)

            assert told.look() == wanted, f"{method} {path}"
            assert fault.hits == 1


async def test_surfaces_whose_ids_were_lost_are_found_again(tmp_path: Path, database: Database) -> None:
    async with story(tmp_path, database) as told:
        await told.show(told.at_gate)
        wanted = told.look()
        lost = {"external_id": None, "content_hash": None, "attempted_at": told.on.clock.now(), "facts": {}}
        async with database.transaction() as tx:
            await tx.execute(update(surfaces).values(lost))

        await told.show_again_after(told.at_gate)

        assert told.look() == wanted
        assert (await told.on.surface(told.run_id, "pull"))["external_id"] == str(told.on.pull().number)


async def test_a_second_one_by_a_call_that_was_still_on_its_way_is_removed(tmp_path: Path, database: Database) -> None:
    async with story(tmp_path, database) as told:
        told.on.github.plan("POST", "*/comments", drop="before")
        with pytest.raises(Exception, match="POST"):
            await told.show(told.at_gate)
        await told.show(told.at_gate)
        gate = told.on.comment("/gate/")
        late = gate.issue.comment(told.on.github.app.bot, gate.body)  # what was thought lost arrives after all

        await told.show_again_after(told.at_gate)

        assert late.deleted
        assert not gate.deleted
        before = len(told.on.writes)
        await told.show(told.at_gate)
        assert len(told.on.writes) == before


async def test_our_marker_in_the_comment_of_somebody_else_is_not_taken_for_ours(
    tmp_path: Path, database: Database
) -> None:
    async with story(tmp_path, database) as told:
        issue = told.on.hub.issues[0]
        forged = issue.comment(told.on.requester, f"<!-- devflow:run/{told.run_id}/status -->\nAll is well.")
        told.on.github.plan("POST", f"*/issues/{issue.number}/comments", drop="after")
        with pytest.raises(Exception, match="POST"):
            await told.show(told.at_gate)

        await told.show_again_after(told.at_gate)

        assert forged.body.endswith("All is well.")
        assert not forged.deleted
        assert (await told.on.surface(told.run_id, "status"))["external_id"] == str(told.on.comment("/status").id)


async def test_a_pull_request_that_somebody_opened_for_the_branch_is_taken_and_keeps_its_text(
    tmp_path: Path, database: Database
) -> None:
    async with story(tmp_path, database) as told:
        by_hand = told.on.hub.open_pull(told.on.requester, "Mine", told.at_gate.branch, body="Written by hand.")

        await told.show(told.at_gate)
        await told.show_again_after(told.at_end)

        assert told.on.pull() is by_hand
        assert (by_hand.title, by_hand.body) == ("Mine", "Written by hand.")
        assert told.on.comment("/gate/").issue is by_hand
