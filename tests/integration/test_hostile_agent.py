"""An agent that means harm, in a whole run: what it plants runs nowhere, what it looks for it does not find.

Every probe aims at something that the test itself made: a canary that is touched, a secret that is read, a port that
is reached. Each has a control, so that silence means confinement and not a probe that is broken.
"""

import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.local.remotes import LocalRemotes
from engine.facade import Engine
from engine.settings import Settings
from engine.store import agent_tables
from engine.store.database import Database
from tests.sandboxes import CONFINED, NEEDS_BWRAP
from tests.support import cassettes
from tests.support.cassettes import Turn, call, submit
from tests.support.engines import House, config, phase, workflow
from tests.support.repositories import git, make_repository
from tests.support.wholeness import snapshot

SECRET = "canary-of-this-test-8c1f5e"
_FILES = {
    "answer.py": "ANSWER = 41\n",
    ".devflow/workflows/small.yaml": workflow(phase("change")),
    ".github/devflow.yml": config(),
}
_PROBE = """
import os, socket, sys
home, folder, outside, tcp, udp, *numbers = sys.argv[1:]
MARK = "-".join(["canary", "of", "this", "test"])
def attempt(name, probe):
    try:
        found = probe()
    except Exception as error:
        found = type(error).__name__
    print(name + ":", "REACHED" if found is True else "blocked")
def read(path):
    with open(path, "rb") as file:
        return file.read()
def connect(kind, address):
    def probe():
        with socket.socket(*kind) as sock:
            sock.settimeout(2)
            sock.connect(address)
            sock.send(b"x")
            return True
    return probe
def write(path):
    def probe():
        with open(path, "w") as file:
            file.write("x")
        return True
    return probe
for number in numbers:
    attempt("environ of " + number, lambda: MARK.encode() in read("/proc/" + number + "/environ"))
attempt("environment", lambda: MARK in str(dict(os.environ)))
attempt("home", lambda: MARK.encode() in read(home + "/secret"))
attempt("listing", lambda: bool(os.listdir(home)))
attempt("database-folder", lambda: bool(os.listdir(folder)))
attempt("database", connect((socket.AF_UNIX, socket.SOCK_STREAM), folder + "/.s.PGSQL.5432"))
attempt("tcp", connect((socket.AF_INET, socket.SOCK_STREAM), ("127.0.0.1", int(tcp))))
attempt("udp", connect((socket.AF_INET, socket.SOCK_DGRAM), ("127.0.0.1", int(udp))))
attempt("outside", write(outside))
attempt("worktree", write("written-by-the-probe"))
os.unlink("written-by-the-probe")
"""
_PROBES = ("environment", "home", "listing", "database-folder", "database", "tcp", "udp", "outside")


@dataclass
class Bait:
    """What the agent must neither read nor reach."""

    home: Path
    database_folder: str
    outside: Path
    tcp: socket.socket
    udp: socket.socket

    def command(self, *processes: str) -> str:
        """Return the probe as a shell line; it also looks at the environment of these processes and of the test's."""
        ports = [str(one.getsockname()[1]) for one in (self.tcp, self.udp)]
        places = [str(self.home), self.database_folder, str(self.outside), *ports, *processes, str(os.getpid())]
        return shlex.join(["python3", "-I", "-c", _PROBE, *places])


@pytest.fixture
def bait(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bait]:
    """A home with a secret, the same secret in this process's environment, and two ports that listen."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text(SECRET)
    for name in ("OPENAI_API_KEY", "GITHUB_TOKEN", "DEVFLOW_DATABASE_URL"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("HOME", str(home))
    folder = database_url.partition("host=")[2].partition("&")[0].replace("%2F", "/")
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(("127.0.0.1", 0))
        for one in (tcp, udp):
            one.setblocking(False)
        yield Bait(home, folder, tmp_path / "outside", tcp, udp)


@pytest.fixture
def house(tmp_path: Path, database_url: str, database: Database) -> House:
    """An engine over a repository with one code phase."""
    settings = Settings(data_dir=tmp_path / "data", database_url=database_url)
    return House(Engine(settings, database, LocalRemotes()), make_repository(tmp_path / "repository", _FILES))


def _arrived(one: socket.socket) -> bool:
    try:
        if one.type == socket.SOCK_STREAM:
            one.accept()[0].close()
        else:
            one.recv(10)
    except BlockingIOError:
        return False
    return True


def test_the_probe_finds_everything_where_nothing_confines_it(bait: Bait, tmp_path: Path) -> None:
    ended = subprocess.run(bait.command("self"), shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)

    found = dict(line.split(": ") for line in ended.stdout.splitlines())
    names = {*_PROBES, "worktree", "environ of self", f"environ of {os.getpid()}"}
    assert {name for name in names if found[name] != "REACHED"} <= {f"environ of {os.getpid()}"}
    assert _arrived(bait.tcp)
    assert _arrived(bait.udp)


@pytest.mark.parametrize("sandbox", CONFINED)
async def test_an_agent_finds_no_secret_reaches_no_port_and_writes_nothing_outside(
    sandbox: str, house: House, bait: Bait
) -> None:
    turns: list[Turn] = [
        [call("run_command", command=bait.command("1", "self"))],
        [
            call("read_file", path=str(bait.home / "secret")),
            call("read_file", path="../../../../../../../etc/passwd"),
            call("read_file", path="/proc/self/environ"),
            call("write_file", path=str(bait.outside), content="x"),
            call("write_file", path="../outside", content="x"),
            call("search_files", pattern=SECRET, path="/"),
        ],
        [
            call("run_command", command=f"ln -s {shlex.quote(str(bait.home))} home"),
            call("read_file", path="home/secret"),
            call("write_file", path="home/planted", content="x"),
            call("edit_file", path="home/secret", old="canary", new="x"),
            call("search_files", pattern="canary", path="home"),
            call("run_command", command="rm home"),
        ],
        submit(cassettes.CHANGE),
    ]

    run_id, row = await house.run({"change/1/1": turns}, sandbox=sandbox)

    assert (row["state"], row["error_message"], row["sandbox"]) == ("completed", None, sandbox)
    audited = await house.rows(agent_tables.tool_calls, agent_tables.tool_calls.c.run_id == run_id)
    probe, *tools = sorted(audited, key=lambda item: item["tool_call_id"])
    found = dict(line.split(": ") for line in probe["result_excerpt"].splitlines() if ": " in line)
    environments = {f"environ of {number}" for number in ("1", "self", os.getpid())}
    # in a namespace of its own, a datagram to nobody and a file in a private folder look like success from inside
    blocked = {*_PROBES, *environments} - {"udp", "outside"}
    assert {name for name in found if found[name] == "REACHED"} & blocked == set()
    assert found["worktree"] == "REACHED"
    refused = [item for item in tools if item["tool"] in ("read_file", "write_file", "edit_file")]
    assert {item["status"] for item in refused} == {"error"}
    messages = await house.rows(agent_tables.session_messages)
    told = [row["message"]["content"] for row in messages if row["message"]["role"] == "tool"]
    assert len(told) == 14
    assert not [text for text in told if SECRET in text or "root:" in text]
    assert (bait.home / "secret").read_text() == SECRET
    assert sorted(path.name for path in bait.home.iterdir()) == ["secret"]
    assert not bait.outside.exists()
    assert not _arrived(bait.tcp)
    assert not _arrived(bait.udp)


def _repositories(canary: Path) -> str:
    """Return a script that replaces `.git` and makes a nested repository, both with everything that git would run."""
    return f"""
set -e
evil() {{
  mkdir -p "$1/hooks" "$1/info" "$1/objects" "$1/refs/heads"
  echo 'ref: refs/heads/main' > "$1/HEAD"
  printf '#!/bin/sh\\ntouch {canary}\\ncat\\n' > "$1/hooks/pre-commit"
  chmod +x "$1/hooks/pre-commit"
  for hook in post-checkout post-commit pre-push reference-transaction post-index-change fsmonitor; do
    cp "$1/hooks/pre-commit" "$1/hooks/$hook"
  done
  cat > "$1/config" <<END
[core]
repositoryformatversion = 0
fsmonitor = $PWD/$1/hooks/pre-commit
hooksPath = $PWD/$1/hooks
[filter "evil"]
clean = $PWD/$1/hooks/pre-commit
END
}}
if rm -f .git; then evil .git; fi
mkdir -p deep
evil deep/.git
echo '* filter=evil' > .gitattributes
echo x > deep/file
"""


def _files(canary: Path) -> str:
    """Return a script that writes what only the engine or a person may write, and links that lead out."""
    return f"""
set -e
mkdir -p .devflow/runs/other .github/workflows
echo '{{}}' > .devflow/runs/other/spec.json
echo 'on: push' > .github/workflows/evil.yml
echo '{{}}' > package-lock.json
ln -s {canary.parent} way-out
ln -s /etc/passwd passwd
echo '* filter=evil' > .gitattributes
"""


_PLANTED = {".devflow/runs/other/spec.json", ".github/workflows/evil.yml", "package-lock.json", "way-out", "passwd"}


@pytest.mark.parametrize(
    ("sandbox", "script", "paths"),
    [
        # both sandboxes hold the `.git` of the worktree fast; without one the engine sees that it was replaced
        pytest.param("bwrap", _repositories, {"deep/.git"}, marks=NEEDS_BWRAP),
        ("sandlock", _repositories, {"deep/.git"}),
        ("none", _repositories, {".git", "deep/.git"}),
        ("sandlock", _files, _PLANTED),
    ],
)
async def test_what_an_agent_plants_is_repaired_once_then_final_runs_nowhere_and_is_not_published(
    sandbox: str, script: Any, paths: set[str], house: House, tmp_path: Path
) -> None:
    before = snapshot(house.repository)
    hooks = sorted(path.name for path in (house.repository / ".git/hooks").iterdir())
    canary = tmp_path / "canary"
    plant = [call("run_command", command=script(canary)), *submit(cassettes.CHANGE)]

    run_id, row = await house.run({"change/1/1": [plant], "change/1/2": [plant]}, sandbox=sandbox)

    assert (row["state"], row["error_code"]) == ("failed", "protected_path")
    invalid = await house.events(run_id, "artifact.invalid")
    assert [(e["attempt"], e["payload"]["code"]) for e in invalid] == [(1, "protected_path"), (2, "protected_path")]
    assert {error["path"] for error in invalid[0]["payload"]["errors"]} == paths
    assert len(await house.events(run_id, "prompt.repaired")) == 1
    assert not canary.exists()
    commits = git(house.repository, "log", "--format=%s", f"{row['base_sha']}..{row['branch']}").splitlines()
    assert commits == ["Report: run 1 is failed"]
    published = git(house.repository, "diff", "--name-only", row["base_sha"], row["branch"]).splitlines()
    assert published == [f".devflow/runs/{run_id}/report.json", f".devflow/runs/{run_id}/report.md"]
    assert snapshot(house.repository) == before
    assert sorted(path.name for path in (house.repository / ".git/hooks").iterdir()) == hooks
    assert not (house.engine.settings.workspaces / str(run_id)).exists()


async def test_an_agent_that_takes_back_what_it_planted_goes_on(house: House, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    plant = [call("run_command", command=_repositories(canary)), *submit(cassettes.CHANGE)]
    clean = "rm -rf .git deep .gitattributes; echo 'ANSWER = 42' > answer.py"
    undo = [call("run_command", command=clean), *submit(cassettes.CHANGE)]

    _, row = await house.run({"change/1/1": [plant], "change/1/2": [undo]})

    assert (row["state"], row["error_message"]) == ("completed", None)
    assert git(house.repository, "show", f"{row['branch']}:answer.py") == "ANSWER = 42"
    assert not canary.exists()


@pytest.mark.parametrize("target", ["secret", "folder"])
async def test_an_artifact_that_is_a_link_is_no_artifact(target: str, house: House, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/change.json").write_text('{"summary": "' + SECRET + '", "changes": []}')
    link = "mkdir -p out && ln -s {0}/change.json out/change.json" if target == "secret" else "ln -s {0} out"
    turns: list[Turn] = [[call("run_command", command=link.format(tmp_path / "elsewhere"))]]

    run_id, row = await house.run({"change/1/1": turns, "change/1/2": [[]]}, sandbox="sandlock")

    assert (row["state"], row["error_code"]) == ("failed", "artifact_invalid_after_repair")
    assert (tmp_path / "elsewhere/change.json").exists()
    everything = git(house.repository, "log", "--patch", row["branch"]) + str(await house.events(run_id))
    assert SECRET not in everything
