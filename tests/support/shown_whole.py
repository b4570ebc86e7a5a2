"""What must hold on GitHub and in the store once an App's work has come to its end, whatever happened on the way."""

from collections import Counter
from uuid import UUID

from sqlalchemy import select

from app.local.remotes import LocalRemotes
from app.surface.desired import Check, Comment, Pull, Shown, Surface, gate_surfaces, pull_surface, surfaces
from app.surface.reading import read_view
from app.surface.render import marker_of
from engine.facade import Engine
from engine.settings import Settings
from engine.store import surfaces as rows
from engine.store.database import Database
from engine.store.host_tables import deliveries, projections
from engine.store.tables import approval_requests
from tests.github_double import Comment as HostComment
from tests.github_double import GitHubDouble, Repository
from tests.support.github_app import github_app


async def assert_shown_whole(
    github: GitHubDouble, repository: Repository, database: Database, settings: Settings, run_id: UUID, *, replies: int
) -> None:
    """Assert that a completed run is shown once and truly, with so many replies, and that nothing is left to do."""
    engine = Engine(settings, database, LocalRemotes())
    row = await engine.row(run_id)
    assert (row["state"], row["error_code"], row["lease_worker"]) == ("completed", None, None), dict(row)
    assert row["final_report_path"]
    assert (await engine.broken_link(run_id))[1] is None
    async with database.read() as tx:
        gates = await tx.all(select(approval_requests).where(approval_requests.c.run_id == run_id))
        states = [one["state"] for one in await tx.all(select(deliveries.c.state))]
        (projection,) = await tx.all(select(projections))
        shown = await rows.of_run(tx, run_id)
    assert not {"received", "failed", "unreadable"} & set(states)
    assert (projection["dirty"], projection["claimed_by"], projection["error"]) == (False, None, None), dict(projection)
    unmade = [dict(surface) for surface in shown if surface["attempted_at"] and not surface["external_id"]]
    assert not unmade, unmade
    assert not [gate for gate in gates if gate["state"] == "pending"]

    (pull,) = repository.pulls
    assert (pull.state, pull.draft, pull.head_sha) == ("open", False, row["head_sha"])
    assert repository.branches() == {repository.default_branch: row["base_sha"], row["branch"]: row["head_sha"]}
    ours = [one for place in repository.numbered.values() for one in place.comments if one.author is github.app.bot]
    kinds = Counter(_kind(comment) for comment in ours)
    assert kinds == {"status": 1, "gate": len(gates), "end": 1} | ({"reply": replies} if replies else {})
    assert len({marker_of(comment.body) for comment in ours}) == len(ours)
    hidden = [comment for comment in ours if comment.minimized_reason]
    assert len(hidden) == sum(gate["state"] == "superseded" for gate in gates)
    by_commit = Counter(check.head_sha for check in repository.check_runs)
    assert set(by_commit.values()) == {1}
    for check in repository.check_runs:
        wanted = "success" if check.head_sha == row["head_sha"] else "neutral"
        assert (check.status, check.conclusion) == ("completed", wanted)
    assert row["head_sha"] in by_commit
    await _assert_true(github, repository, database, run_id, ours)


def _kind(comment: HostComment) -> str:
    parts = str(marker_of(comment.body)).split("/")
    return parts[0] if parts[0] == "reply" else parts[2]


async def _assert_true(
    github: GitHubDouble, repository: Repository, database: Database, run_id: UUID, ours: list[HostComment]
) -> None:
    """Assert that what people read is what the store says."""
    (pull,) = repository.pulls
    at = {str(marker_of(comment.body)): comment for comment in ours}
    async with github_app(github, database) as app:
        links = await app.repository(repository.id)
        view = await read_view(database, run_id)
        addresses = {
            key: links.comment_url(one.issue.number, one.id, pull=one.issue is pull) for key, one in at.items()
        }
        shown = Shown(pull.number, tuple(check.head_sha for check in repository.check_runs), addresses)
        wanted: list[Surface] = [*gate_surfaces(view, links, shown), *surfaces(view, links, shown)]
        if (opened := pull_surface(view, links)) is not None:
            wanted.append(opened)
    for key, content in ((surface.key, surface.content) for surface in wanted):
        match content:
            case Comment():
                if key in at:
                    assert at[key].body == content.body, key
            case Pull():
                assert (pull.title, pull.body) == (content.title, content.body)
            case Check():
                (check,) = [one for one in repository.check_runs if one.head_sha == content.sha]
                assert (check.title, check.summary) == (content.title, content.summary)
