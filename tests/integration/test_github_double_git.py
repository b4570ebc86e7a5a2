"""Git over HTTP on the double: cloning and pushing with tokens of all kinds, and what follows a push."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.github_double import GitHubDouble, Repository
from tests.github_double.clients import SteppedClock, git


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def double(tmp_path: Path, clock: SteppedClock) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github", clock=clock) as running:
        yield running


@pytest.fixture
def repository(double: GitHubDouble) -> Repository:
    return double.repository("octo/billsplit", files={"README.md": "# Bills\n"}, private=True)


@pytest.fixture
def work(tmp_path: Path, double: GitHubDouble, repository: Repository) -> Path:
    """A clone with one commit that has not been pushed."""
    git(tmp_path, "clone", "-q", url(double), "work", token=double.token(repository).text)
    commit(tmp_path / "work", "spec.json", "{}")
    return tmp_path / "work"


def url(double: GitHubDouble) -> str:
    return f"{double.server_url}/octo/billsplit.git"


def commit(work: Path, name: str, text: str) -> str:
    (work / name).write_text(text)
    git(work, "add", name)
    git(work, "commit", "-q", "-m", f"Write {name}")
    return git(work, "rev-parse", "HEAD").stdout.strip()


def test_clone_and_push_with_the_apps_token(double: GitHubDouble, repository: Repository, work: Path) -> None:
    assert (work / "README.md").read_text() == "# Bills\n"

    git(work, "push", "-q", "origin", "HEAD:refs/heads/devflow/1", token=double.token(repository).text)

    assert repository.read("devflow/1", "spec.json") == "{}"
    assert repository.head("devflow/1") == git(work, "rev-parse", "HEAD").stdout.strip()
    assert [each.event for each in double.deliveries][-2:] == ["create", "push"]
    push = double.deliveries[-1].payload
    assert (push["ref"], push["created"], push["sender"]["login"]) == ("refs/heads/devflow/1", True, "devflow[bot]")
    assert push["commits"][0]["added"] == ["spec.json"]
    assert {each.token_kind for each in double.calls(path_contains=".git/")} >= {"installation"}


def test_push_to_the_branch_of_a_pull_request_moves_it(
    double: GitHubDouble, repository: Repository, work: Path
) -> None:
    token = double.token(repository).text
    git(work, "push", "-q", "origin", "HEAD:refs/heads/devflow/1", token=token)
    pull = repository.open_pull(double.app.bot, "Round", "devflow/1", draft=True)
    before = pull.head_sha

    after = commit(work, "plan.json", "{}")
    git(work, "push", "-q", "origin", "HEAD:refs/heads/devflow/1", token=token)

    assert pull.head_sha == after
    moved = double.deliveries[-1].payload
    assert (moved["action"], moved["before"], moved["after"]) == ("synchronize", before, after)
    git(work, "push", "-q", "origin", ":refs/heads/devflow/1", token=token)
    assert pull.state == "closed"
    assert [each.event for each in double.deliveries][-3:] == ["delete", "push", "pull_request"]


def test_stale_lease_is_refused_and_a_forced_push_told(
    double: GitHubDouble, repository: Repository, work: Path
) -> None:
    token = double.token(repository).text
    git(work, "push", "-q", "origin", "HEAD:refs/heads/devflow/1", token=token)
    mine = git(work, "rev-parse", "HEAD").stdout.strip()
    theirs = repository.commit("devflow/1", {"x.txt": "1"}, by=double.person("ada"))
    git(work, "commit", "-q", "--amend", "-m", "Again")
    push = ("push", "-q", "origin", "HEAD:refs/heads/devflow/1")

    stale = git(work, *push, f"--force-with-lease=refs/heads/devflow/1:{mine}", token=token, check=False)
    git(work, *push, f"--force-with-lease=refs/heads/devflow/1:{theirs}", token=token)

    assert stale.returncode != 0
    assert "stale info" in stale.stderr
    assert double.deliveries[-1].payload["forced"]


@pytest.mark.parametrize("token", [None, "ghs_wrong"])
def test_without_a_good_token_nothing_is_read(
    double: GitHubDouble, repository: Repository, tmp_path: Path, token: str | None
) -> None:
    done = git(tmp_path, "ls-remote", url(double), token=token, check=False)

    assert done.returncode != 0
    assert {each.status for each in double.calls(path_contains=".git/")} == {401}


def test_expired_token_is_refused(
    double: GitHubDouble, repository: Repository, work: Path, clock: SteppedClock
) -> None:
    token = double.token(repository).text
    clock.step(3600)

    done = git(work, "push", "-q", "origin", "HEAD:refs/heads/x", token=token, check=False)

    assert done.returncode != 0
    assert "x" not in repository.branches()
    assert double.requests[-1].status == 401


def test_reading_token_clones_and_does_not_push(double: GitHubDouble, repository: Repository, work: Path) -> None:
    token = double.token(repository, contents="read").text

    git(work, "fetch", "-q", "origin", token=token)
    done = git(work, "push", "-q", "origin", "HEAD:refs/heads/x", token=token, check=False)

    assert done.returncode != 0
    assert "403" in done.stderr
    assert "x" not in repository.branches()


def test_token_of_another_repository_finds_nothing(
    double: GitHubDouble, repository: Repository, tmp_path: Path
) -> None:
    other = double.repository("octo/other")

    done = git(tmp_path, "ls-remote", url(double), token=double.token(other).text, check=False)

    assert done.returncode != 0
    assert "not found" in done.stderr
    assert double.requests[-1].status == 404


def test_person_pushes_by_role_and_is_the_sender(double: GitHubDouble, repository: Repository, work: Path) -> None:
    ada, bob = double.person("ada"), double.person("bob")
    repository.permit(ada, "write")
    repository.permit(bob, "read")

    git(work, "push", "-q", "origin", "HEAD:refs/heads/x", token=double.pat(ada))
    done = git(work, "push", "-q", "origin", "HEAD:refs/heads/y", token=double.pat(bob), check=False)

    assert double.deliveries[-1].payload["pusher"]["name"] == "ada"
    assert "403" in done.stderr


def test_public_repository_is_cloned_by_anybody(double: GitHubDouble, tmp_path: Path) -> None:
    double.repository("octo/open")

    git(tmp_path, "clone", "-q", f"{double.server_url}/octo/open.git")

    assert (tmp_path / "open/README.md").exists()


def test_rule_refuses_a_push_with_its_text(double: GitHubDouble, repository: Repository, work: Path) -> None:
    repository.refuse_pushes("refs/heads/devflow/*", "Commits must have verified signatures.")

    token = double.token(repository).text
    done = git(work, "push", "origin", "HEAD:refs/heads/devflow/1", token=token, check=False)

    assert done.returncode != 0
    assert "GH013: Repository rule violations found for refs/heads/devflow/1" in done.stderr
    assert "Commits must have verified signatures." in done.stderr
    assert "devflow/1" not in repository.branches()


def test_archived_repository_takes_no_push(double: GitHubDouble, repository: Repository, work: Path) -> None:
    repository.archive()

    token = double.token(repository).text
    done = git(work, "push", "-q", "origin", "HEAD:refs/heads/x", token=token, check=False)

    assert "archived" in done.stderr


def test_renamed_repository_is_cloned_under_its_old_name(
    double: GitHubDouble, repository: Repository, tmp_path: Path
) -> None:
    repository.rename("octo/bills")

    git(tmp_path, "clone", "-q", url(double), token=double.token(repository).text)

    assert (tmp_path / "billsplit/README.md").exists()


def test_large_push_arrives_whole(double: GitHubDouble, repository: Repository, work: Path) -> None:
    text = "".join(f"{number * 7919:x}\n" for number in range(400_000))  # beyond git's buffer, so it comes in chunks
    commit(work, "large.txt", text)

    git(work, "push", "-q", "origin", "HEAD:refs/heads/x", token=double.token(repository).text)

    assert repository.read("x", "large.txt") == text


def test_forced_push_of_a_person_is_told(double: GitHubDouble, repository: Repository) -> None:
    ada = double.person("ada")
    first = repository.commit("topic", {"spec.json": "1"}, by=ada)
    repository.commit("topic", {"spec.json": "2"}, by=ada)

    repository.force_push("topic", first, by=ada)

    assert repository.read("topic", "spec.json") == "1"
    assert double.deliveries[-1].payload["forced"]


def test_person_updates_the_branch_and_the_tree_follows(double: GitHubDouble, repository: Repository) -> None:
    ada = double.person("ada")
    repository.commit("topic", {"spec.json": "{}"}, by=ada)
    pull = repository.open_pull(double.app.bot, "Round", "topic")
    repository.commit("main", {"CHANGES.md": "new"}, by=ada)

    merged = pull.update_branch(ada)

    assert pull.head_sha == merged == repository.head("topic")
    assert repository.read("topic", "CHANGES.md") == "new"
    assert double.deliveries[-1].action == "synchronize"
