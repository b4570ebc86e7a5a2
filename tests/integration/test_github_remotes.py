"""Git reaches a repository at GitHub with a short-lived token that goes nowhere else and is seen nowhere."""

import asyncio
import base64
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.github.app import GitHubApp
from app.github.remotes import GitHubRemotes, git_environment
from engine.domain.errors import DevflowError
from engine.ports import Remote
from engine.store.database import Database
from engine.workspace.git import GitFailed, git
from engine.workspace.mirror import Mirror
from engine.workspace.push import delete_branch, push
from tests.github_double import GitHubDouble, Repository, User
from tests.support.github_app import github_app, opened

TOKEN = "ghs_0123456789abcdefghijklmnopqrstuvwxyz"
WORD = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()


@dataclass
class Scene:
    """A private repository, and the remotes that lead to it."""

    github: GitHubDouble
    there: Repository
    ada: User
    app: GitHubApp
    remotes: GitHubRemotes
    mirrors: Path

    async def remote(self) -> Remote:
        """Ask for the repository's remote, as the engine does before each fetch and push."""
        return await self.remotes.remote(self.there.id, "whatever the run stored")

    async def mirror(self) -> Mirror:
        """Open the mirror."""
        return await Mirror.open(self.mirrors, self.there.id, await self.remote())


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github") as double:
        yield double


@pytest.fixture
async def scene(github: GitHubDouble, database: Database, tmp_path: Path) -> AsyncIterator[Scene]:
    ada = github.person("ada")
    there = github.repository("octo/bills", {"README.md": "# Bills\n"}, private=True)
    there.permit(ada, "write")
    async with github_app(github, database) as app:
        await opened(app, there)
        yield Scene(github, there, ada, app, GitHubRemotes(app), tmp_path / "mirrors")


async def commit_in(mirror: Mirror, parent: str) -> str:
    """Make a commit with the parent's own files in the mirror."""
    tree = await mirror.tree_of(parent)
    return await mirror.git.text("commit-tree", tree, "-p", parent, "-m", "A commit")


async def test_a_private_repository_is_read_and_pushed_to(scene: Scene) -> None:
    mirror = await scene.mirror()
    base = await mirror.fetch("main")
    new = await commit_in(mirror, base)

    await push(mirror, "devflow/1-round", new, expected=None)

    assert base == scene.there.head("main")
    assert await mirror.read_files(base, ["README.md"]) == {"README.md": b"# Bills\n"}
    assert scene.there.head("devflow/1-round") == new
    assert await mirror.head_of_remote("devflow/1-round") == new
    await delete_branch(mirror, "devflow/1-round", expected=new)
    assert "devflow/1-round" not in scene.there.branches()


async def test_a_local_repository_is_its_folder(scene: Scene) -> None:
    assert await scene.remotes.remote(-5, "/somewhere/.git") == Remote(url="/somewhere/.git")


async def test_a_renamed_repository_is_reached_by_its_new_name(scene: Scene) -> None:
    scene.there.rename("octo/invoices")

    mirror = await scene.mirror()

    assert mirror.remote.url.endswith("/octo/invoices.git")
    assert await mirror.fetch("main") == scene.there.head("main")


async def test_only_the_commands_that_need_the_network_get_the_token(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, programs = tmp_path / "log", tmp_path / "bin"
    programs.mkdir()
    wrapper = programs / "git"
    wrapper.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "${{GIT_CONFIG_COUNT:-none}} $*" >> {log}\nexec {shutil.which("git")} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    mirror = await scene.mirror()
    base = await mirror.fetch("main")
    new = await commit_in(mirror, base)
    await mirror.diff(base, new, 1000)
    await mirror.head_of_remote("main")
    await push(mirror, "topic", new, expected=None)
    await delete_branch(mirror, "topic", expected=new)

    calls = [line.partition(" ") for line in log.read_text().splitlines() if "--no-pager" in line]
    commands = {(re.sub(r"^--no-pager( -c \S+)* ", "", said).split()[0], count != "none") for count, _, said in calls}
    assert {name for name, token in commands if token} == {"fetch", "push", "ls-remote"}
    assert {name for name, token in commands if not token} >= {"init", "diff", "commit-tree", "update-ref"}


async def test_the_token_is_on_no_command_line_and_in_no_file(scene: Scene) -> None:
    mirror = await scene.mirror()
    base = await mirror.fetch("main")
    new = await commit_in(mirror, base)
    scene.github.plan("POST", "*/git-receive-pack", delay=1.0)

    pushing = asyncio.create_task(push(mirror, "topic", new, expected=None))
    seen: set[str] = set()
    while not pushing.done():
        seen |= {line for line in command_lines() if "topic" in line or "git-remote-http" in line}
        await asyncio.sleep(0.02)
    await pushing

    secrets = list(scene.github.world.tokens)
    secrets += [base64.b64encode(f"x-access-token:{token}".encode()).decode() for token in secrets]
    assert any("git-remote-http" in line for line in seen)
    assert not [line for line in seen for secret in secrets if secret in line]
    files = [path for path in scene.mirrors.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files for secret in secrets if secret.encode() in path.read_bytes()]
    assert "token" not in mirror.remote.url
    assert not [secret for secret in secrets if secret in repr(mirror)]


def command_lines() -> Iterator[str]:
    """The command lines of every process of this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


class _Elsewhere(BaseHTTPRequestHandler):
    """Writes down who came with which credential, and answers as it was told."""

    status = 404
    headers_out: dict[str, str]
    echo = False
    authorizations: list[str | None]

    def do_GET(self) -> None:
        given = self.headers["authorization"]
        self.authorizations.append(given)
        word = (given or "-").split()[-1]
        decoded = base64.b64decode(word).decode(errors="replace") if given else ""
        body = f"you said {given} which is {word} or {decoded}\n" if self.echo else "no\n"
        self.send_response(self.status)
        for name, value in self.headers_out.items():
            self.send_header(name, value)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def elsewhere(
    status: int = 404, headers: dict[str, str] | None = None, *, echo: bool = False
) -> Iterator[tuple[str, list[str | None]]]:
    """Serve on a port of its own; yields its address and the Authorization header of each request that came."""
    given: list[str | None] = []
    handler = type(
        "Handler",
        (_Elsewhere,),
        {"status": status, "headers_out": headers or {}, "echo": echo, "authorizations": given},
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", given
        server.shutdown()
        thread.join()


async def test_another_server_is_not_shown_the_token() -> None:
    with elsewhere() as (mine, own), elsewhere() as (other, foreign):
        environment = git_environment(mine, TOKEN)
        await git("ls-remote", f"{mine}/octo/x.git", env=environment, check=False)
        await git("ls-remote", f"{other}/octo/x.git", env=environment, check=False)

    assert own[0] == f"Basic {WORD}"
    assert foreign
    assert set(foreign) == {None}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_to_another_server_is_not_followed(status: int) -> None:
    with elsewhere() as (other, foreign):
        target = f"{other}/octo/x.git/info/refs?service=git-upload-pack"
        with elsewhere(status, {"Location": target}) as (mine, own):
            result = await git("ls-remote", f"{mine}/octo/x.git", env=git_environment(mine, TOKEN), check=False)

    assert result.code != 0
    assert own == [f"Basic {WORD}"]
    assert foreign == []


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_server_that_repeats_the_token_does_not_get_it_into_an_error(status: int, tmp_path: Path) -> None:
    with elsewhere(status, echo=True) as (mine, own):
        remote = Remote(f"{mine}/octo/x.git", git_environment(mine, TOKEN))
        mirror = await Mirror.open(tmp_path, 1, remote)
        with pytest.raises(DevflowError) as caught:
            await mirror.head_of_remote("main")
        with pytest.raises(GitFailed) as failed:
            await mirror.git.run("ls-remote", remote.url, env=remote.environment)

    assert f"Basic {WORD}" in own
    said = f"{caught.value}{caught.value.__cause__}{failed.value}{failed.value.result}"
    assert TOKEN not in said
    assert WORD not in said


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_server_that_refuses_means_that_the_repository_is_not_found(status: int, tmp_path: Path) -> None:
    with elsewhere(status) as (mine, _):
        mirror = await Mirror.open(tmp_path, 1, Remote(f"{mine}/octo/x.git", git_environment(mine, TOKEN)))
        with pytest.raises(DevflowError, match="repository_not_found"):
            await mirror.fetch("main")


async def test_a_repository_that_the_app_lost_is_not_found(scene: Scene) -> None:
    scene.github.repository("octo/other")
    scene.github.uninstall(scene.there)

    with pytest.raises(DevflowError, match="repository_not_found") as caught:
        await scene.remote()

    assert "installed" in caught.value.recovery_hint
    with pytest.raises(DevflowError, match="repository_not_found"):
        await scene.remotes.remote(12345, "")


async def test_a_github_that_is_down_is_unavailable_and_comes_back(scene: Scene) -> None:
    mirror = await scene.mirror()
    base = await mirror.fetch("main")
    new = await commit_in(mirror, base)
    scene.github.down()

    with pytest.raises(DevflowError, match="github_unavailable"):
        await mirror.head_of_remote("main")
    with pytest.raises(DevflowError, match="github_unavailable"):
        await push(mirror, "topic", new, expected=None)
    async with github_app(scene.github, scene.app._database) as fresh:
        with pytest.raises(DevflowError, match="github_unavailable"):
            await GitHubRemotes(fresh).remote(scene.there.id, "")

    scene.github.up()
    await push(mirror, "topic", new, expected=None)
    assert scene.there.head("topic") == new


async def test_a_rule_of_the_repository_refuses_with_its_own_words(scene: Scene) -> None:
    mirror = await scene.mirror()
    new = await commit_in(mirror, await mirror.fetch("main"))
    scene.there.refuse_pushes("refs/heads/devflow/*", "Cannot create ref due to creations being restricted.")

    with pytest.raises(DevflowError, match="creations being restricted") as caught:
        await push(mirror, "devflow/1", new, expected=None)

    assert caught.value.code == "push_rejected"


async def test_a_token_without_write_access_may_not_push(scene: Scene) -> None:
    mirror = await scene.mirror()
    new = await commit_in(mirror, await mirror.fetch("main"))
    weak = scene.github.token(scene.there, contents="read").text
    mirror = replace(mirror, remote=Remote(mirror.remote.url, git_environment(scene.github.server_url, weak)))

    with pytest.raises(DevflowError, match=r"permission_missing: .*`contents: write`") as caught:
        await push(mirror, "topic", new, expected=None)

    assert weak not in str(caught.value)


async def test_a_token_that_may_not_read_is_told_so(scene: Scene) -> None:
    mirror = await scene.mirror()
    weak = scene.github.token(scene.there, issues="write").text
    mirror = replace(mirror, remote=Remote(mirror.remote.url, git_environment(scene.github.server_url, weak)))

    with pytest.raises(DevflowError, match=r"permission_missing: .*`contents: read`"):
        await mirror.head_of_remote("main")


def test_how_this_machine_reaches_the_network_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("OPENAI_API_KEY", "not for git")

    environment = git_environment("https://github.example", TOKEN)

    assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert "OPENAI_API_KEY" not in environment
