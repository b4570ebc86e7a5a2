"""How commands run and end, the same in every sandbox: results, limits, toolchain, and nothing left behind."""

import asyncio
import os
import secrets
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from engine.domain.errors import DevflowError
from engine.workspace import bwrap
from engine.workspace.confine import Bwrap, Command, Sandlock
from engine.workspace.files import UnsafePath
from engine.workspace.launch import Limits
from engine.workspace.toolchain import Toolchain
from tests.sandboxes import ALL, CONFINED, NEEDS_BWRAP, alive, make_worktree, run, run_python, sandbox


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    return make_worktree(tmp_path)


@pytest.fixture
def marker() -> str:
    """An argument by which a process can be found again; `sleep` takes it for a number of seconds."""
    return f"1000.{secrets.randbelow(10**12):012d}"


async def _until_alive(marker: str, count: int) -> None:
    async with asyncio.timeout(60):
        while len(alive(marker)) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ALL)
async def test_a_command_answers_with_exit_code_and_output_in_order(name: str, worktree: Path) -> None:
    result = await run(sandbox(name), worktree, "echo one; echo two >&2; echo three; exit 7")

    assert (result.exit_code, result.output) == (7, "one\ntwo\nthree\n")
    assert not result.timed_out
    assert not result.truncated
    assert result.seconds > 0


@pytest.mark.parametrize("name", ALL)
async def test_a_signal_and_a_missing_program_have_the_shells_exit_codes(name: str, worktree: Path) -> None:
    box = sandbox(name)

    assert (await run(box, worktree, "kill -KILL $$")).exit_code == 128 + signal.SIGKILL
    assert (await run(box, worktree, "kill -TERM $$")).exit_code == 128 + signal.SIGTERM
    assert (await run(box, worktree, ["no-such-program"])).exit_code == 127


@pytest.mark.parametrize("name", ALL)
async def test_work_stays_and_temporary_files_go(name: str, worktree: Path) -> None:
    box = sandbox(name)
    command = "cat code.py; echo new > new.txt; echo t > $TMPDIR/t; mkdir $HOME/d; chmod 0 $HOME/d; echo $TMPDIR"

    result = await run(box, worktree, command)
    again = await run(box, worktree, "test -e $TMPDIR/t || test -e $HOME/d || echo gone")

    assert result.output.startswith("print('hello')\n")
    assert (worktree / "new.txt").read_text() == "new\n"
    assert again.output == "gone\n"
    folder = Path(result.output.splitlines()[-1])
    assert folder == Path(bwrap.TEMPORARY) or not folder.exists()


@pytest.mark.parametrize("name", ALL)
async def test_the_toolchain_works(name: str, worktree: Path) -> None:
    program = "python3 -c 'import pytest, sys; print(sys.prefix)' && git --version && cd . && bash -c 'cat <(echo ok)'"

    result = await run(sandbox(name), worktree, program)

    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == sys.prefix
    assert lines[1].startswith("git version")
    assert lines[2] == "ok"


@pytest.mark.parametrize("name", CONFINED)
async def test_a_toolchain_in_a_closed_home_is_shown_without_the_rest(
    name: str, worktree: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    tool = home / "tools" / "bin" / "greet"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho greetings\n")
    tool.chmod(0o755)
    (home / "key").write_text("private")
    home.chmod(0o700)
    tools = Toolchain.detect([home / "tools"])
    box = sandbox(name)
    box = type(box)(**{**vars(box), "tools": tools})

    result = await run(box, worktree, f"greet; cat {home}/key; ls {home}; touch {home}/tools/x; true")

    assert result.output.startswith("greetings\n")
    assert "private" not in result.output
    assert "key\n" not in result.output.replace(f"{home}/key", "")
    assert not (home / "tools" / "x").exists()


@pytest.mark.parametrize("folder", ["/", "/etc", str(Path.home()), "/no/such/folder", "relative"])
def test_a_toolchain_that_would_show_too_much_is_refused(folder: str) -> None:
    with pytest.raises(DevflowError) as caught:
        Toolchain.detect([Path(folder)])

    assert caught.value.code == "config_invalid"


@pytest.mark.parametrize("name", ALL)
async def test_a_timeout_kills_everything_at_once(name: str, worktree: Path, marker: str) -> None:
    result = await run(sandbox(name), worktree, f"echo before; sleep {marker} & sleep {marker}", timeout_seconds=1.0)

    assert result.timed_out
    assert result.exit_code is None
    assert result.output == "before\n"
    assert result.seconds < 10
    assert alive(marker) == []


@pytest.mark.parametrize("name", ALL)
async def test_background_processes_do_not_outlive_the_command(name: str, worktree: Path, marker: str) -> None:
    command = (
        f"sleep {marker} & setsid sleep {marker} & (setsid sh -c 'setsid sleep {marker} >/dev/null 2>&1 &') ;"
        f" python3 -c 'import os, sys\nif os.fork(): sys.exit()\nos.setsid()\nif os.fork(): os._exit(0)\n"
        f'os.closerange(0, 100)\nos.execvp("sleep", ["sleep", "{marker}"])\'; echo done'
    )

    result = await run(sandbox(name), worktree, command)

    assert (result.exit_code, result.output) == (0, "done\n")
    assert alive(marker) == []


@pytest.mark.parametrize("name", ALL)
async def test_cancelling_kills_the_command_before_it_returns(name: str, worktree: Path, marker: str) -> None:
    task = asyncio.create_task(run(sandbox(name), worktree, f"setsid sleep {marker} & sleep {marker}"))
    await _until_alive(marker, 2)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(marker) == []


@pytest.mark.parametrize("name", ALL)
async def test_the_death_of_the_engine_kills_the_command(name: str, worktree: Path, marker: str) -> None:
    program = (
        "import asyncio\nfrom pathlib import Path\nfrom tests.sandboxes import run, sandbox\n"
        f"asyncio.run(run(sandbox({name!r}), Path({str(worktree)!r}), 'setsid sleep {marker} & sleep {marker}'))"
    )
    engine = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=Path(__file__).parents[2])
    await _until_alive(marker, 2)

    engine.kill()
    await engine.wait()

    async with asyncio.timeout(60):
        while alive(marker):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ALL)
async def test_endless_output_is_bounded_and_says_so(name: str, worktree: Path) -> None:
    result = await run(sandbox(name), worktree, "echo first; yes | head -c 500M; echo last", output_limit=10_000)

    assert result.exit_code == 0
    assert result.truncated
    assert len(result.output) < 10_100
    assert result.output.startswith("first\n")
    assert result.output.endswith("last\n")
    assert "bytes cut" in result.output


@pytest.mark.parametrize("name", ALL)
async def test_output_that_is_no_text_is_still_an_answer(name: str, worktree: Path) -> None:
    result = await run(sandbox(name), worktree, "printf 'a\\377b'")

    assert result.output == "a\ufffdb"


@pytest.mark.parametrize("name", CONFINED)
async def test_processes_are_limited(name: str, worktree: Path, marker: str) -> None:
    # forty processes against a limit of twenty: enough to see the limit, too few to hurt where it fails
    command = f"for i in $(seq 40); do sleep {marker} & done; wait"

    result = await run(sandbox(name, processes=20), worktree, command, timeout_seconds=5.0)

    assert result.killed == "processes" or "fork" in result.output
    assert alive(marker) == []


@pytest.mark.parametrize("name", ALL)
async def test_memory_is_limited_for_one_process_and_for_all_together(name: str, worktree: Path) -> None:
    box = sandbox(name, memory_bytes=256 << 20)
    one = "print(len(bytearray(400 << 20)))"
    many = (
        "import os, time\n"
        "for _ in range(3):\n"
        " if os.fork() == 0:\n"
        "  block = bytearray(os.urandom(1 << 20)) * 150\n"
        "  time.sleep(30)\n"
        "time.sleep(30)"
    )

    alone = await run_python(box, worktree, one)
    together = await run_python(box, worktree, many)

    assert alone.exit_code == 1
    assert "MemoryError" in alone.output
    assert (together.exit_code, together.killed) == (None, "memory")


@pytest.mark.parametrize("name", ALL)
async def test_files_and_core_dumps_are_limited(name: str, worktree: Path) -> None:
    result = await run(
        sandbox(name, file_bytes=1 << 20), worktree, "ulimit -c; head -c 2M /dev/zero > big; stat -c %s big"
    )

    assert result.output.splitlines()[0] == "0"
    assert (worktree / "big").stat().st_size <= 1 << 20


@pytest.mark.parametrize("name", ALL)
async def test_a_command_runs_where_and_with_what_it_was_told(name: str, worktree: Path) -> None:
    (worktree / "sub").mkdir()

    result = await run(sandbox(name), worktree, "pwd; echo $GREETING", cwd="sub", env={"GREETING": "hi"})

    assert result.output == f"{worktree / 'sub'}\nhi\n"


async def test_a_working_directory_outside_and_an_impossible_argument_are_refused(worktree: Path) -> None:
    with pytest.raises(UnsafePath):
        await run(sandbox("none"), worktree, "true", cwd="../..")
    with pytest.raises(ValueError, match="NUL"):
        await run(sandbox("none"), worktree, "echo \0")
    with pytest.raises(ValueError, match="at most"):
        await run(sandbox("none"), worktree, "x" * 200_000)


@NEEDS_BWRAP
async def test_a_bwrap_that_fails_is_the_sandboxs_error_not_the_commands(worktree: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    box = Bwrap(str(broken), Toolchain.detect(), Limits())

    with pytest.raises(DevflowError) as caught:
        await run(box, worktree, "true")

    assert caught.value.code == "sandbox_unavailable"
    assert "setting up uid map" in caught.value.message


async def test_a_sandlock_that_fails_is_the_sandboxs_error_not_the_commands(worktree: Path, tmp_path: Path) -> None:
    box = Sandlock(str(tmp_path), Toolchain.detect(), Limits())

    with pytest.raises(DevflowError) as caught:
        await run(box, worktree, "true")

    assert caught.value.code == "sandbox_unavailable"
    assert "sandlock" in caught.value.message


@pytest.mark.parametrize("name", ALL)
async def test_commands_at_the_same_time_do_not_meet(name: str, worktree: Path) -> None:
    box = sandbox(name)

    results = await asyncio.gather(*(run(box, worktree, f"echo {i} > $TMPDIR/f; cat $TMPDIR/f") for i in range(4)))

    assert [result.output for result in results] == [f"{i}\n" for i in range(4)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", CONFINED)
async def test_an_ordinary_user_is_confined_as_well(name: str) -> None:
    system_python = Path("/usr/bin/python3")
    if not system_python.exists():
        pytest.skip("no Python that another user can run")
    import sandlock

    root, packages = Path(__file__).parents[2], Path(sandlock.__file__).parents[1]
    program = (
        f"import sys; sys.path += [{str(root)!r}, {str(packages)!r}]\n"
        "import asyncio\nfrom engine.workspace import selftest\nfrom engine.workspace.confine import make\n"
        "from engine.workspace.toolchain import Toolchain\n"
        f"print(asyncio.run(selftest.failures(make({name!r}, Toolchain.detect()))))"
    )
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o777)
        process = await asyncio.create_subprocess_exec(
            *(*user, str(system_python), "-S", "-B", "-c", program),
            env={"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home},
            cwd="/",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()

    assert output.decode() == "[]\n"


def test_a_command_line_goes_to_a_shell_and_a_list_does_not() -> None:
    assert Command("echo $HOME").argv[1:] == ["-c", "echo $HOME"]
    assert Command(["echo", "$HOME"]).argv == ["echo", "$HOME"]
