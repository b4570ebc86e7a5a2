"""What the client asks and tells a GitHub that refuses what GitHub refuses."""

import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.github.app import GitHubApp
from app.github.auth import AppCredentials
from app.github.faults import Gone, NoFile, Refused
from app.github.shapes import CommentTarget, IssueTarget, Permission, ReviewComment, ReviewTarget
from engine.domain.errors import DevflowError
from engine.store import hosted
from engine.store.database import Database
from tests.github_double import GitHubDouble
from tests.support.clock import SteppedClock
from tests.support.github_app import ClientScene as Scene
from tests.support.github_app import client_scene, opened


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def github(tmp_path: Path, clock: SteppedClock) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github", clock=clock.now) as double:
        yield double


@pytest.fixture
async def scene(github: GitHubDouble, database: Database, clock: SteppedClock) -> AsyncIterator[Scene]:
    async with client_scene(github, database, clock) as made:
        yield made


# Issues and comments


async def test_an_issue_is_read_with_its_author_and_labels(scene: Scene) -> None:
    scene.there.issues[0].label(scene.ada, "devflow")

    issue = await scene.client.issue(1)

    assert (issue.title, issue.body, issue.state, issue.labels) == (
        "Round the shares",
        "They do not add up",
        "open",
        ("devflow",),
    )
    assert (issue.author.id, issue.author.login, issue.is_pull) == (scene.ada.id, "ada", False)


async def test_a_comment_is_written_changed_and_deleted_for_good(scene: Scene) -> None:
    comment = await scene.client.create_comment(1, "first")
    changed = await scene.client.update_comment(comment.id, "second")

    assert (changed.id, changed.body) == (comment.id, "second")
    assert await scene.client.comment(comment.id) == changed
    assert [each.body for each in scene.there.issues[0].comments] == ["second"]

    await scene.client.delete_comment(comment.id)
    await scene.client.delete_comment(comment.id)  # somebody else was faster

    assert scene.there.issues[0].comments == []


async def test_only_the_apps_own_comments_are_ours(scene: Scene) -> None:
    scene.there.issues[0].comment(scene.ada, "<!-- devflow:run/x/status -->")
    scene.there.issues[0].comment(scene.github.person("renovate[bot]"), "hello")
    ours = await scene.client.create_comment(1, "status")

    assert [comment.id for comment in await scene.client.our_comments(1)] == [ours.id]
    assert len(await scene.client.comments(1)) == 3


async def test_every_page_of_a_long_conversation_is_read(scene: Scene) -> None:
    issue = scene.there.issues[0]
    for number in range(205):
        issue.comment(scene.ada, f"comment {number}")

    comments = await scene.client.comments(1)

    assert [comment.body for comment in comments] == [f"comment {number}" for number in range(205)]
    assert len(scene.github.calls("GET", "/issues/1/comments")) == 3


async def test_comments_can_be_asked_for_from_a_time_on(scene: Scene) -> None:
    scene.there.issues[0].comment(scene.ada, "old")
    scene.clock.step(60)
    since = scene.clock.now()
    scene.there.issues[0].comment(scene.ada, "new")

    assert [comment.body for comment in await scene.client.comments(1, since)] == ["new"]


async def test_a_reaction_stands_once_on_an_issue_a_comment_and_a_review(scene: Scene) -> None:
    comment = scene.there.issues[0].comment(scene.ada, "/approve")
    scene.there.commit("topic", {"a": "a"}, scene.ada)
    pull = scene.there.open_pull(scene.github.person("bob"), "P", "topic")
    review = pull.review(scene.ada, "approve")
    targets = (IssueTarget(1), CommentTarget(comment.id), ReviewTarget(review.node_id, pull.number))

    for target in targets * 2:
        await scene.client.react(target, "eyes")
    await scene.client.react(targets[0], "confused")

    def contents(where: Any) -> list[str]:
        return [reaction.content.lower() for reaction in where.reactions]

    assert contents(scene.there.issues[0]) == ["eyes", "confused"]
    assert contents(comment) == contents(review) == ["eyes"]


@pytest.mark.parametrize("role", ["none", "read", "triage", "write", "maintain", "admin"])
async def test_a_permission_is_the_effective_one_with_the_id_of_the_account(scene: Scene, role: str) -> None:
    eve = scene.github.person("eve")
    scene.there.permit(eve, role)

    permission = await scene.client.permission("eve")

    assert permission == Permission(role, eve.id)  # type: ignore[arg-type]
    assert permission.may_write is (role in ("write", "maintain", "admin"))
    assert permission.may_triage is (role in ("triage", "write", "maintain", "admin"))


async def test_a_custom_role_counts_as_the_one_it_is_based_on(scene: Scene) -> None:
    answer = {"permission": "write", "role_name": "release manager", "user": {"id": 5, "login": "x"}}
    scene.github.plan("GET", "*/collaborators/x/permission", status=200, body=answer)

    assert await scene.client.permission("x") == Permission("write", 5)


async def test_nobody_has_no_permission(scene: Scene) -> None:
    assert await scene.client.permission("nobody") == Permission("none", None)
    assert not (await scene.client.permission("renovate[bot]")).may_triage


async def test_somebody_whom_github_knows_does_not_lose_a_permission_to_an_answer_that_is_not_found(
    scene: Scene,
) -> None:
    scene.github.plan("GET", "*/collaborators/ada/permission", status=404, body={"message": "Not Found"})

    with pytest.raises(Refused):
        await scene.client.permission("ada")
    assert (await scene.client.permission("ada")).user_id == scene.ada.id


async def test_a_login_has_an_id_or_is_nobodys(scene: Scene) -> None:
    assert await scene.client.user_id("Ada") == scene.ada.id
    for nobody in ("nobody", "ada@example.org", "../repos", "ada/../ada"):
        assert await scene.client.user_id(nobody) is None


# Files and branches


async def test_a_file_is_read_byte_for_byte_at_any_commit(scene: Scene) -> None:
    odd = bytes(range(256)) * 50
    old = scene.there.head("main")
    scene.there.commit("main", {"a folder/b ä#?.bin": odd}, scene.ada)

    assert await scene.client.file("a folder/b ä#?.bin") == odd
    assert await scene.client.file("a folder/b ä#?.bin", ref=old) is None
    assert await scene.client.file(".github/devflow.yml") == b"commands: prefixed\n"
    assert await scene.client.file("nothing/here.txt") is None


async def test_a_folder_or_a_huge_file_is_refused_instead_of_read_as_empty(scene: Scene) -> None:
    scene.there.commit("main", {"huge.txt": b"x" * 1_100_000}, scene.ada)

    for path in (".github", "huge.txt"):
        with pytest.raises(NoFile):
            await scene.client.file(path)


async def test_a_branch_has_a_head_or_is_not_there(scene: Scene) -> None:
    sha = scene.there.commit("devflow/1-round", {"a": "a"}, scene.ada)

    assert await scene.client.branch_head("devflow/1-round") == sha
    assert await scene.client.branch_head("devflow/1") is None
    assert await scene.client.default_branch() == "main"


# Pull requests


async def test_a_draft_becomes_an_ordinary_pull_request(scene: Scene) -> None:
    scene.there.commit("devflow/1-round", {"a": "a"}, scene.ada)

    pull = await scene.client.create_pull("Round", "Closes #1", "devflow/1-round", "main", True)

    assert (pull.draft, pull.state, pull.merged, pull.head_ref) == (True, "open", False, "devflow/1-round")
    assert pull.author.is_bot
    assert await scene.client.pulls_of("devflow/1-round") == [pull]
    await scene.client.ready_for_review(pull.node_id)
    assert not (await scene.client.pull(pull.number)).draft

    changed = await scene.client.update_pull(pull.number, title="Rounded", state="closed")

    assert (changed.title, changed.body, changed.state) == ("Rounded", "Closes #1", "closed")
    assert [each.state for each in await scene.client.pulls_of("devflow/1-round")] == ["closed"]
    assert await scene.client.pulls_of("devflow/1") == []


async def test_a_second_pull_request_of_a_branch_is_refused_with_githubs_words(scene: Scene) -> None:
    scene.there.commit("topic", {"a": "a"}, scene.ada)
    await scene.client.create_pull("P", "", "topic", "main", False)

    with pytest.raises(Refused) as caught:
        await scene.client.create_pull("P", "", "topic", "main", False)

    assert caught.value.status == 422
    assert "already exists" in " ".join(caught.value.errors)


async def test_where_drafts_are_not_had_it_is_said(scene: Scene) -> None:
    plain = scene.github.repository("octo/plain", drafts=False)
    plain.commit("topic", {"a": "a"}, scene.ada)

    with pytest.raises(Refused, match=r"Draft pull requests are not supported"):
        await (await opened(scene.app, plain)).create_pull("P", "", "topic", "main", True)


async def test_a_review_brings_its_inline_comments(scene: Scene) -> None:
    scene.there.commit("topic", {"a.py": "one\ntwo\n"}, scene.ada)
    pull = scene.there.open_pull(scene.github.person("bob"), "P", "topic")
    review = pull.review(scene.ada, "request_changes", "No", comments=[("a.py", 2, "why?"), ("a.py", 1, "and this")])

    assert (await scene.client.review(pull.number, review.id)).state == "changes_requested"
    assert await scene.client.review_comments(pull.number, review.id) == [
        ReviewComment("a.py", 2, "why?"),
        ReviewComment("a.py", 1, "and this"),
    ]


async def test_a_comment_is_folded_away_with_its_reason(scene: Scene) -> None:
    comment = await scene.client.create_comment(1, "gate")

    await scene.client.minimise(comment.node_id, "OUTDATED")

    assert str(scene.there.issues[0].comments[0].minimized_reason).lower() == "outdated"


async def test_what_graphql_does_not_find_is_gone(scene: Scene) -> None:
    with pytest.raises(Gone):
        await scene.client.minimise("IC_kwDOAAAAAAAA", "RESOLVED")


# Checks


async def test_a_check_run_follows_a_commit(scene: Scene) -> None:
    sha = scene.there.head("main")

    check_id = await scene.client.create_check(
        sha, external_id="run/1", status="in_progress", conclusion=None, title="spec", summary="working"
    )
    await scene.client.update_check(
        check_id,
        status="completed",
        conclusion="action_required",
        title="spec",
        summary="waits",
        details_url="https://example.invalid/x",
    )

    (check,) = await scene.client.checks_of(sha)
    assert (check.id, check.external_id, check.status, check.conclusion) == (
        check_id,
        "run/1",
        "completed",
        "action_required",
    )
    assert check.ours
    assert check.name == "devflow"


async def test_where_check_runs_are_not_granted_a_status_is_set(scene: Scene) -> None:
    del scene.github.app.permissions["checks"]
    sha = scene.there.head("main")

    with pytest.raises(Refused) as caught:
        await scene.client.create_check(sha, external_id="x", status="queued", conclusion=None, title="t", summary="s")
    await scene.client.set_status(sha, "pending", "x" * 200, "https://example.invalid/x")

    assert caught.value.status == 403
    (status,) = scene.there.statuses(sha)
    assert (status.state, status.context, len(status.description or "")) == ("pending", "devflow", 140)


# Names and addresses


async def test_addresses_lead_to_the_pages(scene: Scene) -> None:
    page = f"{scene.github.server_url}/octo/bills"

    assert scene.client.issue_url(5) == f"{page}/issues/5"
    assert scene.client.pull_url(5) == f"{page}/pull/5"
    assert scene.client.commit_url("abc") == f"{page}/commit/abc"
    assert scene.client.blob_url("devflow/x", "a b/c.md") == f"{page}/blob/devflow/x/a%20b/c.md"
    assert scene.client.comment_url(5, 7) == f"{page}/issues/5#issuecomment-7"
    assert scene.client.comment_url(5, 7, pull=True) == f"{page}/pull/5#issuecomment-7"


async def test_a_renamed_repository_is_found_and_its_new_name_written_down(scene: Scene, database: Database) -> None:
    for number in range(130):
        scene.there.issues[0].comment(scene.ada, f"comment {number}")
    scene.there.rename("octo/invoices")

    comment = await scene.client.create_comment(1, "still here")

    assert scene.there.issues[0].comments[-1].id == comment.id
    assert scene.client.full_name == "octo/invoices"
    async with database.read() as tx:
        row = await hosted.get(tx, scene.there.id)
    assert row is not None
    assert row["full_name"] == "octo/invoices"
    posted = [call for call in scene.github.calls("POST", "/comments") if call.status == 201]
    assert [call.path for call in posted] == ["/repos/octo/invoices/issues/1/comments"]  # never sent along a redirect


async def test_a_list_that_was_redirected_keeps_its_query(scene: Scene) -> None:
    for number in range(130):
        scene.there.issues[0].comment(scene.ada, f"comment {number}")
    scene.there.rename("octo/invoices")

    assert len(await scene.client.comments(1)) == 130


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/api/v3/repositories/1", "/elsewhere", ""])
async def test_a_redirect_to_another_address_is_not_followed(scene: Scene, target: str) -> None:
    scene.github.plan("GET", "/repos/*", times=None, status=301, body={}, headers={"Location": target})

    with pytest.raises(Refused, match="redirects to another address"):
        await scene.client.issue(1)


async def test_redirects_in_a_circle_end(scene: Scene) -> None:
    circle = f"{scene.github.api_url}/repos/octo/bills"
    scene.github.plan("GET", "/repos/*", times=None, status=301, body={}, headers={"Location": circle})

    with pytest.raises(Refused):
        await scene.client.issue(1)


async def test_a_repository_that_nobody_spoke_of_is_not_found(scene: Scene) -> None:
    with pytest.raises(DevflowError, match="repository_not_found"):
        await scene.app.repository(1)

    assert (await scene.app.repository(scene.there.id)).full_name == "octo/bills"


# The two forms of an API's address


class _Recorder(BaseHTTPRequestHandler):
    """Answers every request with an empty GraphQL result and writes its path down."""

    paths: list[str]

    def do_POST(self) -> None:
        self.paths.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        token = b'{"token": "ghs_x", "expires_at": "2999-01-01T00:00:00Z"}'
        answer = token if self.path.endswith("access_tokens") else b'{"data": {}}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.mark.parametrize(
    ("suffix", "graphql"),
    [("", "/graphql"), ("/", "/graphql"), ("/api/v3", "/api/graphql"), ("/api/v3/", "/api/graphql")],
)
async def test_graphql_is_found_beside_either_form_of_the_api(
    github: GitHubDouble, database: Database, suffix: str, graphql: str
) -> None:
    handler = type("Handler", (_Recorder,), {"paths": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        credentials = AppCredentials(1, github.app.private_key_pem.replace("\n", "\\n"))  # as in an .env file
        url = f"http://127.0.0.1:{server.server_port}{suffix}"
        app = GitHubApp(credentials, database, SteppedClock(), api_url=url, seconds_between_writes=0)
        client = await app.open(1, 2, "octo/bills", "main")
        await client.minimise("IC_x", "OUTDATED")
        await app.close()
        server.shutdown()

    assert handler.paths == [f"{suffix.rstrip('/')}/app/installations/2/access_tokens", graphql]  # type: ignore[attr-defined]
