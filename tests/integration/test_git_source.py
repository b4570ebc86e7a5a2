"""What a person may name with --repo and --base, and that their clone stays as it was."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from engine.domain.errors import DevflowError
from engine.workspace.source import inspect_source, resolve_base, user_email
from tests.integration.git_bench import make_bench, make_source, person


async def code_of(path: Path, branch: str | None = None) -> str:
    with pytest.raises(DevflowError) as caught:
        await resolve_base(await inspect_source(path), branch)
    return caught.value.code


async def test_a_folder_inside_a_repository_names_that_repository(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    facts = await inspect_source(source / "src")
    assert facts.top_level == source
    assert facts.common_dir == source / ".git"
    assert facts.current_branch == "main"


async def test_the_id_of_a_local_repository_is_made_of_the_path_of_its_git_folder(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    link = tmp_path / "link"
    link.symlink_to(source)
    bits = bin(int.from_bytes(hashlib.sha256(os.fsencode(source / ".git")).digest(), "big"))[2:].zfill(256)
    assert (await inspect_source(source)).repository_id == -int(bits[:62], 2)
    assert (await inspect_source(link)).repository_id == -int(bits[:62], 2)


async def test_a_linked_worktree_is_the_same_repository(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    person(source, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    side = await inspect_source(tmp_path / "side")
    assert side.repository_id == (await inspect_source(source)).repository_id
    assert (await resolve_base(side, None))[0] == "side"


async def test_what_is_no_repository_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    person(tmp_path, "init", "--quiet", "--bare", "bare")
    person(tmp_path, "init", "--quiet", "empty")
    source = make_source(tmp_path / "source")
    assert await code_of(tmp_path / "nowhere") == "repository_not_found"
    assert await code_of(tmp_path / "folder") == "repository_not_found"
    assert await code_of(tmp_path / "file") == "repository_not_found"
    assert await code_of(tmp_path / "bare") == "repository_bare"
    assert await code_of(tmp_path / "empty") == "repository_empty"
    assert await code_of(source / ".git" / "objects") == "repository_not_found"


async def test_a_detached_head_needs_a_base(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    head = person(source, "rev-parse", "HEAD")
    person(source, "checkout", "--quiet", "--detach")
    assert await code_of(source) == "base_not_found"
    assert await resolve_base(await inspect_source(source), "main") == ("main", head)


async def test_an_unknown_base_is_answered_with_the_branches_that_come_close(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    person(source, "branch", "release/1.0")
    with pytest.raises(DevflowError, match=r"release/1\.0") as caught:
        await resolve_base(await inspect_source(source), "relase/1.0")
    assert caught.value.code == "base_not_found"
    for hostile in ("main~0", "--all", "@", "main^{commit}"):
        assert await code_of(source, hostile) == "base_not_found"


async def test_a_nested_repository_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    inner = make_source(tmp_path / "inner")
    source = make_source(tmp_path / "source")
    head = person(inner, "rev-parse", "HEAD")
    person(source, "update-index", "--add", "--cacheinfo", f"160000,{head},vendor/inner")
    person(source, "commit", "--quiet", "--message=gitlink")
    assert await code_of(source) == "nested_repository"
    (source / ".gitmodules").write_text('[submodule "x"]\n\tpath = vendor/inner\n\turl = ../inner\n')
    person(source, "add", ".gitmodules")
    person(source, "commit", "--quiet", "--message=declared")
    assert (await resolve_base(await inspect_source(source), None))[0] == "main"


async def test_the_email_is_the_one_that_the_person_has_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "source")
    (tmp_path / ".gitconfig").write_text("[user]\n\temail = global@example.org\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert await user_email(source) == "global@example.org"
    person(source, "config", "user.email", "own@example.org")
    assert await user_email(source) == "own@example.org"
    assert (await inspect_source(source)).email == "own@example.org"


async def test_a_hook_that_started_the_engine_does_not_redirect_its_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "source")
    other = make_source(tmp_path / "other", {"other": "x"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    bench = await make_bench(tmp_path / "bench", source=source)
    assert bench.facts.top_level == source
    assert set(await bench.mirror.read_files(bench.base, [""])) == {"README.md", "src/app.py"}


async def test_a_dirty_clone_stays_byte_for_byte_as_it_was(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    (source / "README.md").write_text("changed\n")
    (source / "src" / "app.py").unlink()
    (source / "new.txt").write_text("untracked\n")
    person(source, "add", "new.txt")
    status = person(source, "status", "--porcelain")
    index, config = source / ".git" / "index", source / ".git" / "config"
    before = (
        index.read_bytes(),
        index.stat().st_mtime_ns,
        config.read_bytes(),
        (source / ".git" / "HEAD").read_bytes(),
    )

    bench = await make_bench(tmp_path / "bench", source=source)
    (bench.tree / "README.md").write_text("by the agent\n")
    commit = await bench.commit(bench.base)
    await bench.push(commit, None)

    after = (index.read_bytes(), index.stat().st_mtime_ns, config.read_bytes(), (source / ".git" / "HEAD").read_bytes())
    assert after == before
    assert person(source, "status", "--porcelain") == status
    assert (source / "README.md").read_text() == "changed\n"
    assert person(source, "rev-parse", bench.branch) == commit


async def test_two_processes_may_ask_for_the_same_mirror_at_once(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    benches = await asyncio.gather(*(make_bench(tmp_path / "bench", source=source) for _ in range(6)))
    assert len({bench.mirror.path for bench in benches}) == 1
    assert len({bench.tree for bench in benches}) == 6


async def test_a_shallow_clone_can_be_worked_on_and_pushed_to(tmp_path: Path) -> None:
    origin = make_source(tmp_path / "origin")
    person(origin, "commit", "--quiet", "--allow-empty", "--message=second")
    person(tmp_path, "clone", "--quiet", "--depth=1", f"file://{origin}", "shallow")
    bench = await make_bench(tmp_path / "bench", source=tmp_path / "shallow")
    (bench.tree / "new.txt").write_text("x\n")
    commit = await bench.commit(bench.base)
    await bench.push(commit, None)
    assert person(tmp_path / "shallow", "rev-parse", bench.branch) == commit


async def test_a_commit_made_after_the_mirror_is_fetched(tmp_path: Path) -> None:
    bench = await make_bench(tmp_path / "bench")
    (bench.source / "later.txt").write_text("later\n")
    person(bench.source, "add", "later.txt")
    person(bench.source, "commit", "--quiet", "--message=later")
    head = person(bench.source, "rev-parse", "HEAD")
    assert await bench.mirror.fetch("main") == head
    assert await bench.mirror.list_root(head) == ["README.md", "later.txt", "src"]
    with pytest.raises(DevflowError) as caught:
        await bench.mirror.fetch("gone")
    assert caught.value.code == "base_not_found"


async def test_only_ordinary_files_below_the_prefixes_are_read(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        ".devflow/workflows/a.yaml": "a",
        ".devflow/workflows/deep/b.yaml": b"\xff\x00",
        ".github/devflow.yml": "c",
        "other": "d",
    }
    source = make_source(tmp_path / "source", files)
    (source / ".devflow" / "link.yaml").symlink_to("/etc/passwd")
    person(source, "add", "--all")
    person(source, "commit", "--quiet", "--message=link")
    bench = await make_bench(tmp_path / "bench", source=source)
    found = await bench.mirror.read_files(bench.base, [".devflow", ".github/devflow.yml", "missing"])
    assert found == {
        ".devflow/workflows/a.yaml": b"a",
        ".devflow/workflows/deep/b.yaml": b"\xff\x00",
        ".github/devflow.yml": b"c",
    }
