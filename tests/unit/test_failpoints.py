"""Nothing reaches the world outside this process but through a failure point, and the points do what they say."""

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from engine import failpoints

ROOT = Path(__file__).parents[2]

# Where a process may be started, and what for.
PROCESSES = {
    "engine/workspace/git.py:git": "the one place that runs git",
    "engine/workspace/launch.py:launch": "agents' commands and checks, by the sandbox's supervisor",
    "engine/workspace/selftest.py:_canaries": "a process that the sandbox's self-test must not see",
    "engine/workspace/jail/supervisor.py:main": "inside the sandbox",
    "engine/workspace/worktree.py:_delete": "chmod and rm of what an agent made too deep to walk",
    "engine/store/installation.py:run_as": "the embedded server's own programs",
    "engine/store/installation.py:server_account": "useradd, before there is any database",
}

# Where something is written by other means than `atomic_file.write_file`, and why that is right.
WRITES = {
    "app/reference/__main__.py:main": "the documentation in the checkout, by its developers",
    "engine/atomic_file.py:write_file": "it is the one place",
    "engine/failpoints.py:_pass": "the log of the points themselves",
    "engine/store/cluster.py:create": "initdb's folder is renamed whole; there is no database before",
    "engine/store/cluster.py:start": "the server's own log is set aside",
    "engine/store/embedded.py:_open_lock": "an empty lock file",
    "engine/store/installation.py:_copy_programs": "the server's programs, inside a failure point of its own",
    "engine/store/installation.py:run_as": "memory, no file",
    "engine/workspace/files.py:write_bytes": "inside the worktree",
    "engine/workspace/mirror.py:_make": "the finished mirror is renamed whole; its files are git's",
    "engine/workspace/mirror.py:_locked": "an empty lock file",
    "engine/workspace/worktree.py:create": "the worktree's own .git",
    "engine/workspace/worktree.py:_clear": "the worktree's own .git",
    "engine/workspace/worktree.py:_private_index": "a copy that is thrown away",
    "engine/workspace/worktree.py:reset_to": "the worktree's index, which is built anew from any commit",
    "engine/workspace/selftest.py:failures": "the self-test's private folder",
}
# What runs inside the sandbox, where there is nothing but the worktree and a private folder.
CONFINED = "engine/workspace/jail/"


@dataclass(frozen=True)
class Call:
    """A call in the sources, by the function it stands in and the effects that surround it."""

    file: str
    function: str
    node: ast.Call
    effects: frozenset[str]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.function}"

    @property
    def name(self) -> str:
        return ast.unparse(self.node.func)

    @property
    def attribute(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.node.lineno} {ast.unparse(self.node)[:100]}"


@cache
def sources() -> dict[str, ast.Module]:
    """The syntax trees of engine and app by path."""
    paths = [path for top in ("engine", "app") for path in sorted((ROOT / top).rglob("*.py"))]
    names = {path.relative_to(ROOT).as_posix(): path for path in paths}
    return {name: ast.parse(path.read_text()) for name, path in names.items()}


@cache
def all_calls() -> tuple[Call, ...]:
    """Every call in the sources."""
    return tuple(call for file, tree in sources().items() for call in _walk(file, tree, "", frozenset()))


def _walk(file: str, node: ast.AST, function: str, effects: frozenset[str]) -> Iterator[Call]:
    if isinstance(node, ast.Call):
        yield Call(file, function, node, effects)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function, effects = node.name, frozenset()
    if isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            yield from _walk(file, item, function, effects)
            said = ast.unparse(item.context_expr)
            if said.startswith("failpoints.around("):
                effects = effects | {said.removesuffix(")").rpartition(".")[2]}
        for child in node.body:
            yield from _walk(file, child, function, effects)
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk(file, child, function, effects)


def _strings(node: ast.AST) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _first(call: Call) -> str | None:
    arguments = call.node.args
    value = arguments[0].value if arguments and isinstance(arguments[0], ast.Constant) else None
    return value if isinstance(value, str) else None


def test_only_the_database_commits_and_inside_its_failure_point() -> None:
    others = {
        "publish.commit": "of git",
        "repo.commit": "looks one up",
        "conversation.begin": "no transaction",
        "surfaces.begin": "writes a row in the caller's transaction",
    }
    found = [
        call
        for call in all_calls()
        if call.attribute in ("commit", "begin", "begin_nested", "create_async_engine", "create_engine")
        and call.name not in others
    ]
    assert {call.file for call in found} == {"engine/store/database.py"}
    commits = [call for call in found if call.attribute == "commit"]
    assert [call.effects for call in commits] == [frozenset({"SQL_COMMIT"})]


def test_no_statement_commits_by_its_text() -> None:
    words = re.compile(r"\s*(COMMIT|BEGIN|END|START TRANSACTION|PREPARE TRANSACTION)\b", re.IGNORECASE)
    found = [
        call.where
        for call in all_calls()
        if call.attribute in ("text", "execute") and any(words.match(text) for text in _strings(call.node))
    ]
    assert found == []


def test_connections_past_the_pool_only_listen_or_probe() -> None:
    places = {call.place for call in all_calls() if call.name == "asyncpg.connect"}
    assert places == {"engine/doorbells.py:_listen_once", "engine/store/embedded.py:_refusal"}


def test_processes_are_started_only_where_the_list_says() -> None:
    starts = (
        "create_subprocess_exec",
        "create_subprocess_shell",
        "Popen",
        "check_call",
        "check_output",
        "popen",
    )
    found = {
        call.place
        for call in all_calls()
        if (
            call.attribute in starts
            or call.name.startswith(("os.exec", "os.system", "os.spawn", "os.posix_spawn", "subprocess."))
        )
        and not call.file.startswith(CONFINED)
    }
    assert found - set(PROCESSES) == set()


def test_gitpython_only_reads_the_mirror() -> None:
    users = {file for file, tree in sources().items() if "git" in _imports(tree)}
    assert users == {"engine/workspace/mirror.py"}
    assert {call.place for call in all_calls() if call.name == "Repo"} == {"engine/workspace/mirror.py:_read_files"}


@pytest.mark.parametrize(
    ("effect", "commands"),
    [
        ("GIT_COMMIT", {"commit", "commit-tree", "merge", "rebase", "cherry-pick", "revert", "am", "fast-import"}),
        ("GIT_PUSH", {"push", "send-pack"}),
    ],
)
def test_git_commits_and_pushes_only_inside_their_failure_points(effect: str, commands: set[str]) -> None:
    found = [
        call
        for call in all_calls()
        if _first(call) in commands
        and call.attribute in ("run", "text", "git", "_network")
        # an object that no ref names, and that nobody sees before its push
        and call.place != "engine/workspace/state_ref.py:write"
    ]
    assert len(found) == 1
    assert found[0].effects == {effect}


def test_models_are_asked_only_by_one_function_and_inside_its_failure_point() -> None:
    clients = {"openai", "httpx", "httpx2", "requests", "aiohttp", "urllib3", "urllib.request", "http.client"}
    others = {"app/github/transport.py", "app/github/faults.py", "app/github/calls.py"}  # the host: see below
    users = {file for file, tree in sources().items() if clients & _imports(tree)}
    assert users - others == {"engine/agents/openai_agent.py"}
    asks = [
        call
        for call in all_calls()
        if call.file == "engine/agents/openai_agent.py"
        and call.name.startswith("self._client.")
        and call.attribute not in ("close",)
    ]
    assert {call.function for call in asks} == {"_send"}
    assert {call.effects for call in asks} == {frozenset({"MODEL_CALL"})}


def test_the_host_is_told_things_only_by_one_function_and_inside_its_failure_point() -> None:
    writing = {"POST", "PATCH", "PUT", "DELETE"}
    # what sends: the transport, and past it the functions of the caller
    assert {call.place for call in all_calls() if call.name in ("_line.session.request", "self._transport.send")} == {
        "app/github/transport.py:getresponse",
        "app/github/calls.py:_try",
    }
    assert {call.place for call in all_calls() if call.file == "app/github/calls.py" and call.name == "self._try"} == {
        "app/github/calls.py:_send"
    }
    inside = {call.place: call.effects for call in all_calls() if call.name == "self._send" and "calls" in call.file}
    assert inside == {
        "app/github/calls.py:read": frozenset(),
        "app/github/calls.py:write": frozenset({"HOST_CALL"}),
    }
    # whoever names a verb that writes hands it to `write`; new tokens and questions change nothing that anybody sees
    named = {call.place: call for call in all_calls() if call.attribute == "Call" and _first(call) in writing}
    assert set(named) == {
        "app/github/calls.py:mutate",
        "app/github/calls.py:query",
        "app/github/app.py:redeliver",
        "app/github/auth.py:_mint",
        "app/github/auth.py:_ask",
    }
    users = {file for file, tree in sources().items() if "github" in _imports(tree)}
    assert users == {f"app/github/{name}.py" for name in ("transport", "faults", "calls", "auth", "repository")}


def test_files_outside_the_worktree_are_written_by_one_function() -> None:
    found = {call.place: call.where for call in all_calls() if _writes(call) and not call.file.startswith(CONFINED)}
    assert {place: where for place, where in found.items() if place not in WRITES} == {}


def test_the_lists_of_exceptions_name_nothing_that_is_gone() -> None:
    functions = {
        f"{file}:{node.name}"
        for file, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert (set(WRITES) | set(PROCESSES)) - functions == set()
    writing = {call.place for call in all_calls() if _writes(call)}
    assert set(WRITES) - writing == set()


def test_every_effect_has_exactly_the_places_that_the_engine_needs() -> None:
    used: dict[str, set[str]] = {}
    for call in all_calls():
        if call.name == "failpoints.around":
            used.setdefault(ast.unparse(call.node.args[0]).rpartition(".")[2], set()).add(call.file)
    used["FILE_WRITE"].discard("engine/store/installation.py")  # copies a folder, for which one write is not enough
    assert all(len(files) == 1 for files in used.values()), used
    assert set(used) == {effect.name for effect in failpoints.Effect}


def _imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            found |= {name, name.partition(".")[0]}
    return found


def _writes(call: Call) -> bool:
    name, attribute, node = call.name, call.attribute, call.node
    if (
        attribute in ("write_bytes", "write_text", "touch", "symlink_to", "hardlink_to", "rename")
        and name.count(".") > 0
    ):
        # the engine's own modules: for files inside the worktree, and for rows that are to be shown
        return not name.startswith("files.") and name != "projections.touch"
    if attribute == "replace":  # str.replace has two arguments, datetime.replace has names
        return name == "os.replace" or (len(node.args) == 1 and not node.keywords)
    if name in ("os.rename", "os.link", "os.symlink", "os.mknod", "os.truncate", "os.mkfifo"):
        return True
    if name.startswith("tempfile.") or (name.startswith("shutil.") and attribute in _COPIES):
        return True
    said = [ast.unparse(argument) for argument in node.args]
    if name == "asyncio.to_thread" and said[0] in ("shutil.copyfile", "shutil.copytree", "tempfile.mkdtemp"):
        return True
    if name == "os.open":
        return (
            any(flag in said[1] for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND")) and "/proc/" not in said[0]
        )
    if attribute in ("open", "fdopen"):
        modes = [value for value in _strings(node) if 0 < len(value) <= 3 and set(value) <= set("rwaxbt+")]
        return any(set(mode) & set("wax+") for mode in modes)
    return False


_COPIES = ("copy", "copy2", "copyfile", "copytree", "copyfileobj", "move")


def _passing(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from engine import failpoints\nfrom engine.failpoints import Effect\n" + program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


_TWO_WRITES = """
for number in (1, 2):
    with failpoints.around(Effect.FILE_WRITE):
        print("write", number, flush=True)
"""


@pytest.mark.parametrize(
    ("armed", "written"),
    [
        ("file_write.before#1", []),
        ("file_write.after#1", ["write 1"]),
        ("file_write.before#2", ["write 1"]),
        ("file_write.after#2", ["write 1", "write 2"]),
    ],
)
def test_an_armed_point_kills_the_process_at_its_nth_passing(armed: str, written: list[str], tmp_path: Path) -> None:
    ended = _passing(_TWO_WRITES, tmp_path, DEVFLOW_FAILPOINT=armed, DEVFLOW_FAILPOINT_LOG=str(tmp_path / "log"))

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.splitlines() == written
    logged = (tmp_path / "log").read_text().split() if (tmp_path / "log").exists() else []
    whole = ["file_write.before", "file_write.after"] * 2
    side, number = armed.removeprefix("file_write.").split("#")
    assert logged == whole[: 2 * (int(number) - 1) + (side == "after")]


def test_a_point_that_is_not_reached_changes_nothing(tmp_path: Path) -> None:
    ended = _passing(_TWO_WRITES, tmp_path, DEVFLOW_FAILPOINT="file_write.before#3")

    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["write 1", "write 2"])
    assert list(tmp_path.iterdir()) == []


def test_an_effect_that_fails_does_not_pass_the_point_after_it(tmp_path: Path) -> None:
    program = "with failpoints.around(Effect.GIT_PUSH):\n    raise OSError('refused')"

    ended = _passing(program, tmp_path, DEVFLOW_FAILPOINT_LOG=str(tmp_path / "log"))

    assert "refused" in ended.stderr
    assert (tmp_path / "log").read_text().split() == ["git_push.before"]


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text('x')",
        "Path('x').open('w')",
        "open('x', mode='ab')",
        "path.rename(other)",
        "path.replace(other)",
        "os.replace(a, b)",
        "os.open(path, os.O_WRONLY | os.O_CREAT)",
        "shutil.copyfile(a, b)",
        "asyncio.to_thread(shutil.copyfile, a, b)",
        "tempfile.mkdtemp()",
    ],
)
def test_the_search_for_writes_finds_them_in_every_form(source: str) -> None:
    (call, *_) = _walk("file.py", ast.parse(source), "", frozenset())
    assert _writes(call)


def test_an_effect_in_a_nested_function_does_not_count_as_surrounded() -> None:
    source = "with failpoints.around(Effect.GIT_PUSH):\n    push()\n    def later():\n        push()\n"
    found = [call.effects for call in _walk("file.py", ast.parse(source), "", frozenset()) if call.name == "push"]
    assert found == [{"GIT_PUSH"}, frozenset()]
