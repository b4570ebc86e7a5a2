"""Which sandbox is taken at start-up, and that its self-test notices every way out."""

from pathlib import Path

import pytest

from engine.domain.errors import DevflowError
from engine.workspace import confine, selftest
from engine.workspace import sandbox as choice
from engine.workspace.confine import Command, Sandbox
from engine.workspace.launch import CommandResult, Limits
from engine.workspace.sandbox import choose
from engine.workspace.toolchain import Toolchain
from tests.sandboxes import CONFINED, NEEDS_BWRAP, sandbox


@pytest.mark.parametrize("name", CONFINED)
async def test_the_self_test_passes_in_a_sandbox(name: str) -> None:
    assert await selftest.failures(sandbox(name)) == []


async def test_the_self_test_finds_every_way_out_where_nothing_confines() -> None:
    found = await selftest.failures(sandbox("none"))

    expected = {
        "a TCP connection could be made",
        "a UDP datagram could be sent",
        "a file outside could be read",
        "a file outside could be read through a symbolic link",
        "a file outside could be written",
        "a file's mode outside could be changed",
        "a process outside could be signalled",
        "a unix socket outside could be reached",
        "an abstract unix socket could be reached",
        "another process's environment could be read",
    }
    assert expected <= set(found)


async def test_a_sandbox_that_cannot_write_its_worktree_fails_the_self_test() -> None:
    class Hindered:
        name = "hindered"
        tools = Toolchain.detect()

        async def run(self, worktree: Path, command: Command) -> CommandResult:
            worktree.rename(worktree.with_name("elsewhere"))
            worktree.mkdir()
            (worktree / "probe-write").mkdir()
            return await sandbox("none").run(worktree, command)

    hindered: Sandbox = Hindered()

    assert "the worktree cannot be written (Is a directory)" in await selftest.failures(hindered)


@NEEDS_BWRAP
async def test_auto_takes_bubblewrap_where_it_works() -> None:
    assert (await choose("auto", Toolchain.detect())).name == "bwrap"


async def test_auto_takes_sandlock_where_bubblewrap_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    chosen = await choose("auto", Toolchain.detect(), Limits(processes=511))

    assert chosen.name == "sandlock"


async def test_auto_takes_sandlock_where_bubblewrap_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    chosen = await choose("auto", Toolchain.detect(), Limits(processes=510))

    assert chosen.name == "sandlock"


async def test_auto_never_falls_back_to_no_confinement(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(mode: str, tools: Toolchain, limits: Limits) -> Sandbox:
        return confine.make("none", tools, limits)

    monkeypatch.setattr(choice, "make", nothing)

    with pytest.raises(DevflowError) as caught:
        await choose("auto", Toolchain.detect(), Limits(processes=509))

    assert caught.value.code == "sandbox_unavailable"
    assert "bwrap failed its self-test" in caught.value.message
    assert "sandlock failed its self-test" in caught.value.message
    assert "a file outside could be read" in caught.value.message


async def test_a_pass_is_remembered_and_another_toolchain_is_tested_again() -> None:
    tools = Toolchain.detect()

    first = await choose("sandlock", tools)

    assert await choose("sandlock", tools) is first
    assert await choose("sandlock", tools, Limits(processes=100)) is not first


async def test_none_must_be_asked_for_by_name() -> None:
    assert (await choose("none", Toolchain.detect())).name == "none"


async def test_an_unknown_mode_names_the_modes() -> None:
    with pytest.raises(DevflowError) as caught:
        await choose("docker", Toolchain.detect())

    assert caught.value.code == "config_invalid"
    assert "auto, bwrap, sandlock, none" in caught.value.message
