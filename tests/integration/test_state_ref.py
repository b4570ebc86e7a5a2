"""State behind a ref that is no branch: written by compare-and-swap, read back whole, refused where it is odd."""

import asyncio
from pathlib import Path

import pytest

from engine.domain.errors import DevflowError
from engine.ports import Remote
from engine.workspace import state_ref
from engine.workspace.mirror import Mirror
from engine.workspace.state_ref import StateMoved
from tests.support.repositories import git, make_repository

REF = "refs/devflow/state/7"


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A bare repository that machines share."""
    source = make_repository(tmp_path / "source", {"a.txt": "a\n"})
    git(source, "clone", "--quiet", "--bare", str(source), str(tmp_path / "origin.git"))
    return tmp_path / "origin.git"


async def machine(folder: Path, origin: Path) -> Mirror:
    """A machine that has nothing but the repository's address."""
    return await Mirror.open(folder, 42, Remote(str(origin)))


async def test_what_one_machine_writes_another_reads(tmp_path: Path, origin: Path) -> None:
    files = {"state.json": b"{}\n", "run-1.jsonl": bytes(range(256)) * 40}
    written = await state_ref.write(await machine(tmp_path / "one", origin), REF, files, expected=None, message="State")
    found = await state_ref.read(await machine(tmp_path / "two", origin), REF)
    assert found is not None
    assert (found.commit, dict(found.files)) == (written, files)


async def test_no_ref_is_no_state(tmp_path: Path, origin: Path) -> None:
    assert await state_ref.read(await machine(tmp_path / "one", origin), REF) is None


async def test_a_ref_whose_name_ends_the_same_is_another_one(tmp_path: Path, origin: Path) -> None:
    mirror = await machine(tmp_path / "one", origin)
    await state_ref.write(mirror, f"refs/heads/{REF}", {"x": b"1"}, expected=None, message="No state")
    assert await state_ref.read(mirror, REF) is None


async def test_what_is_replaced_does_not_stay_reachable(tmp_path: Path, origin: Path) -> None:
    mirror = await machine(tmp_path / "one", origin)
    first = await state_ref.write(mirror, REF, {"x": b"1"}, expected=None, message="State")
    second = await state_ref.write(mirror, REF, {"x": b"2"}, expected=first, message="State")
    assert git(origin, "rev-list", REF) == second


async def test_of_two_writers_the_second_is_told_and_changes_nothing(tmp_path: Path, origin: Path) -> None:
    one, two = await machine(tmp_path / "one", origin), await machine(tmp_path / "two", origin)
    base = await state_ref.write(one, REF, {"x": b"0"}, expected=None, message="State")
    mine = await state_ref.write(one, REF, {"x": b"1"}, expected=base, message="State")
    with pytest.raises(StateMoved):
        await state_ref.write(two, REF, {"x": b"2"}, expected=base, message="State")
    with pytest.raises(StateMoved):
        await state_ref.write(two, REF, {"x": b"2"}, expected=None, message="State")
    assert git(origin, "rev-parse", REF) == mine


async def test_of_many_writers_at_once_one_wins(tmp_path: Path, origin: Path) -> None:
    machines = [await machine(tmp_path / str(number), origin) for number in range(6)]

    async def write(number: int) -> str | None:
        try:
            files = {"x": str(number).encode()}
            return await state_ref.write(machines[number], REF, files, expected=None, message="State")
        except StateMoved:
            return None

    won = [commit for commit in await asyncio.gather(*(write(number) for number in range(6))) if commit]
    assert won == [git(origin, "rev-parse", REF)]


@pytest.mark.parametrize("odd", ["link", "folder", "no commit"])
async def test_odd_things_behind_the_ref_are_refused(tmp_path: Path, origin: Path, odd: str) -> None:
    blob = git(origin, "rev-parse", "HEAD:a.txt")
    if odd == "no commit":
        git(origin, "update-ref", REF, blob)
    else:
        tree = git(origin, "rev-parse", "HEAD^{tree}")
        row = f"120000 blob {blob}\tlink\n" if odd == "link" else f"040000 tree {tree}\tfolder\n"
        (tmp_path / "rows").write_text(row)
        made = git(origin, "-c", "alias.m=!git mktree < " + str(tmp_path / "rows"), "m")
        git(origin, "update-ref", REF, git(origin, "commit-tree", made, "-m", "odd"))
    with pytest.raises(DevflowError, match=REF) as refused:
        await state_ref.read(await machine(tmp_path / "one", origin), REF)
    assert refused.value.code == "state_invalid"
