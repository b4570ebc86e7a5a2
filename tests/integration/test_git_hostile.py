"""What an agent may leave in a worktree to make the engine's git run a program, follow a link or publish too much.

Each test plants something that would create the canary, lets the engine inspect the worktree, and expects both: the
right answer, and silence.
"""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from engine.workspace import publish
from tests.integration.git_bench import GitBench, make_bench, make_source, person


@pytest.fixture
async def bench(tmp_path: Path) -> GitBench:
    return await make_bench(tmp_path / "bench")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def plant_script(bench: GitBench, path: Path) -> None:
    write(path, f"#!/bin/sh\ntouch {bench.canary}\ncat\n")
    path.chmod(0o755)


def plant_repository(bench: GitBench, folder: Path, git_name: str = ".git") -> None:
    """Make a repository whose configuration runs a program as soon as git looks at its status."""
    make_source(folder, {"file": "x"})
    plant_script(bench, folder / ".git" / "monitor")
    person(folder, "config", "core.fsmonitor", str(folder / git_name / "monitor"))
    person(folder, "config", "filter.evil.clean", str(folder / git_name / "monitor"))
    write(folder / ".gitattributes", "* filter=evil\n")
    if git_name != ".git":
        (folder / ".git").rename(folder / git_name)


async def test_the_canary_sings_for_a_git_that_trusts_the_folder(bench: GitBench) -> None:
    plant_repository(bench, bench.tree / "deep")
    write(bench.tree / "deep" / "new", "x")
    person(bench.tree / "deep", "add", "--all", check=False)
    assert bench.canary.exists()


async def test_a_replaced_git_file_is_refused_before_git_runs(bench: GitBench) -> None:
    (bench.tree / ".git").unlink()
    make_source(bench.root / "evil")
    plant_script(bench, bench.root / "evil" / "run")
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge"):
        person(bench.root / "evil", "config", key, str(bench.root / "evil" / "run"))
    (bench.root / "evil" / ".git").rename(bench.tree / ".git")
    write(bench.tree / ".gitattributes", "* filter=evil\n")
    assert await bench.violations() == {(".git", "nested_repository")}
    assert not bench.canary.exists()


@pytest.mark.parametrize("content", [b"gitdir: /tmp/elsewhere\n", b"", None, "link", "fifo"])
async def test_a_git_file_that_is_not_ours_is_refused(bench: GitBench, content: bytes | str | None) -> None:
    target = bench.tree / ".git"
    target.unlink()
    if content == "link":
        write(bench.root / "copy", bench.worktree.gitfile.decode())
        target.symlink_to(bench.root / "copy")
    elif content == "fifo":
        os.mkfifo(target)
    elif isinstance(content, bytes):
        target.write_bytes(content)
    assert await bench.violations() == {(".git", "nested_repository")}


async def test_a_filter_and_a_hook_have_no_configuration_to_stand_in(bench: GitBench) -> None:
    plant_script(bench, bench.tree / "hooks" / "pre-commit")
    plant_script(bench, bench.tree / "hooks" / "post-index-change")
    plant_script(bench, bench.tree / "run.sh")
    text = f"[core]\n\thooksPath = hooks\n\tfsmonitor = {bench.tree}/run.sh\n"
    text += f'[filter "evil"]\n\tclean = {bench.tree}/run.sh\n\tsmudge = {bench.tree}/run.sh\n\trequired = true\n'
    for name in (".gitconfig", "config", ".config/git/config"):
        write(bench.tree / name, text)
    write(bench.tree / ".gitattributes", "* filter=evil diff=evil merge=evil text\n")
    assert await bench.violations() == set()
    commit = await bench.commit(bench.base)
    await bench.push(commit, None)
    await bench.worktree.reset_to(commit)
    assert not bench.canary.exists()
    assert person(bench.source, "show", f"{commit}:.gitattributes").startswith("* filter=evil")


@pytest.mark.parametrize("name", [".git", ".GIT", ".Git", ".g\u200cit", "git~1", ".git."])
async def test_a_nested_repository_is_refused_by_every_spelling_of_its_name(bench: GitBench, name: str) -> None:
    plant_repository(bench, bench.tree / "deep" / "er", name)
    assert await bench.violations() == {(f"deep/er/{publish_shown(name)}", "nested_repository")}
    assert not bench.canary.exists()


def publish_shown(name: str) -> str:
    return name.replace("\u200c", "\\u200c")


async def test_a_nested_git_file_is_refused_too(bench: GitBench) -> None:
    plant_repository(bench, bench.root / "evil")
    write(bench.tree / "src" / ".git", f"gitdir: {bench.root}/evil/.git\n")
    assert await bench.violations() == {("src/.git", "nested_repository")}
    assert not bench.canary.exists()


async def test_a_nested_repository_in_an_ignored_folder_is_refused_as_well(bench: GitBench) -> None:
    write(bench.tree / ".gitignore", "build/\n")
    plant_repository(bench, bench.tree / "build" / "x")
    assert await bench.violations() == {("build/x/.git", "nested_repository")}
    assert not bench.canary.exists()


async def test_leftovers_of_setup_are_not_entered_and_not_published(bench: GitBench) -> None:
    plant_repository(bench, bench.tree / "vendor" / "x")
    write(bench.tree / "vendor" / "y", "x")
    assert await bench.violations(exclude=("vendor",)) == set()
    assert await bench.worktree.changed_paths(bench.base) == ["vendor"]
    assert not bench.canary.exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "src/../../../x", "sub/.git/config", "..\\x"])
async def test_a_link_that_may_lead_out_is_refused(bench: GitBench, target: str) -> None:
    (bench.tree / "src" / "link").symlink_to(target)
    assert await bench.violations() == {("src/link", "symlink")}


async def test_a_link_that_stays_inside_is_published(bench: GitBench) -> None:
    (bench.tree / "src" / "link").symlink_to("../README.md")
    (bench.tree / "folder").symlink_to("src")
    assert await bench.violations() == set()


async def test_a_folder_exchanged_for_a_link_is_not_followed(bench: GitBench) -> None:
    outside = bench.root / "outside"
    write(outside / "app.py", "secret of the host\n")
    (bench.tree / "src" / "app.py").unlink()
    (bench.tree / "src").rmdir()
    (bench.tree / "src").symlink_to(outside)
    snapshot = await publish.take_snapshot(bench.worktree, bench.base)
    assert {(one.path, one.status) for one in snapshot.changes} == {("src", "A"), ("src/app.py", "D")}
    assert {(one.path, one.rule) for one in snapshot.violations} == {("src", "symlink")}


@pytest.mark.parametrize("name", ["pipe", ".gitignore", "src/.gitattributes"])
async def test_a_fifo_does_not_make_the_engine_wait(bench: GitBench, name: str) -> None:
    os.mkfifo(bench.tree / name)
    assert await bench.violations() == {(name, "special_file")}


async def test_a_socket_is_left_out(bench: GitBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.tree)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("agent.sock")
        assert await bench.violations() == set()


async def test_a_submodule_that_was_added_or_changed_is_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    head = person(source, "rev-parse", "HEAD")
    write(source / ".gitmodules", '[submodule "x"]\n\tpath = sub\n\turl = ../x\n')
    person(source, "add", ".gitmodules")
    person(source, "update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    person(source, "commit", "--quiet", "--message=submodule")
    bench = await make_bench(tmp_path / "bench", source=source)
    assert await bench.violations() == set()

    plant_repository(bench, bench.tree / "other")
    write(bench.tree / "sub" / "file", "x")
    assert await bench.violations() == {("other/.git", "nested_repository"), ("sub", "submodule")}

    await bench.worktree.reset_to(bench.base)
    assert await bench.violations() == set()
    (bench.tree / "sub").rmdir()
    write(bench.tree / "sub", "now a file")
    write(bench.tree / ".gitmodules", "")
    assert await bench.violations() == {("sub", "submodule"), (".gitmodules", "protected_path")}
    assert not bench.canary.exists()


async def test_a_submodule_that_nobody_touched_survives_a_commit(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    head = person(source, "rev-parse", "HEAD")
    write(source / ".gitmodules", '[submodule "x"]\n\tpath = sub\n\turl = ../x\n')
    person(source, "add", ".gitmodules")
    person(source, "update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    person(source, "commit", "--quiet", "--message=submodule")
    bench = await make_bench(tmp_path / "bench", source=source)
    write(bench.tree / "new", "x")
    commit = await bench.commit(bench.base)
    await bench.push(commit, None)
    assert person(source, "diff", "--name-only", bench.base, commit) == "new"
    assert head in person(source, "ls-tree", commit, "sub")


async def test_names_that_look_like_options_or_are_no_text_are_only_names(bench: GitBench) -> None:
    names = [
        b"-x",
        b"--upload-pack=touch canary",
        b":(exclude)src",
        b'quo"te',
        b"new\nline",
        b"\xff\xfe",
        b"$(touch x)",
    ]
    for name in names:
        Path(os.fsdecode(os.fsencode(bench.tree) + b"/" + name)).write_bytes(b"x\n")
    assert await bench.violations() == set()
    commit = await bench.commit(bench.base)
    await bench.push(commit, None)
    listed = subprocess.run(
        ["git", "ls-tree", "-z", "--name-only", commit], cwd=bench.source, capture_output=True, check=True
    ).stdout.split(b"\0")
    assert set(names) <= set(listed)


async def test_a_name_that_is_no_text_is_shown_without_harm(bench: GitBench) -> None:
    Path(os.fsdecode(os.fsencode(bench.tree) + b"/\xff\n\x1b[2J")).symlink_to("/etc")
    found = (await publish.take_snapshot(bench.worktree, bench.base)).violations
    assert [one.path.encode() for one in found] == [b"\\udcff\\n\\x1b[2J"]


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        (".github/workflows/ci.yml", "protected_path"),
        (".GitHub/workflows/ci.yml", "protected_path"),
        (".devflow/workflows/x.yaml", "protected_path"),
        (".devflow/runs/x/spec.json", "protected_path"),
        (".Devflow/Runs/x", "protected_path"),
        ("CODEOWNERS", "protected_path"),
        ("docs/codeowners", "protected_path"),
        (".gitmodules", "protected_path"),
        ("web/package-lock.json", "lock_file"),
        ("Poetry.lock", "lock_file"),
    ],
)
async def test_guarded_paths_are_refused_in_every_spelling(bench: GitBench, path: str, rule: str) -> None:
    write(bench.tree / path, "x")
    assert await bench.violations() == {(path, rule)}


async def test_the_workflow_may_allow_lock_files(bench: GitBench) -> None:
    write(bench.tree / "poetry.lock", "x")
    snapshot = await publish.take_snapshot(bench.worktree, bench.base)
    assert publish.inspect(snapshot, publish.PublishPolicy(code_phase=True, allow_lock_files=True)) == []


async def test_a_phase_without_code_may_change_nothing_but_its_artifact(bench: GitBench) -> None:
    write(bench.tree / "out" / "spec.json", "{}")
    assert await bench.violations(code_phase=False, exclude=("out/spec.json",)) == set()
    write(bench.tree / "README.md", "changed")
    (bench.tree / "src" / "app.py").unlink()
    expected = {("README.md", "not_a_code_phase"), ("src/app.py", "not_a_code_phase")}
    assert await bench.violations(code_phase=False, exclude=("out/spec.json",)) == expected


async def test_what_the_engine_put_on_the_branch_may_be_missing_but_not_changed(bench: GitBench) -> None:
    path = f".devflow/runs/{bench.run_id}/spec.json"
    first = await bench.commit(bench.base, files={path: b"{}\n"})
    assert not (bench.tree / path).exists()
    snapshot = await publish.take_snapshot(bench.worktree, first)
    assert (snapshot.changes, snapshot.tree) == ((), await bench.mirror.tree_of(first))
    write(bench.tree / path, "{}\n")
    assert (await publish.take_snapshot(bench.worktree, first)).changes == ()
    write(bench.tree / path, "{ }\n")
    found = publish.inspect(await publish.take_snapshot(bench.worktree, first), publish.PublishPolicy(code_phase=True))
    assert [(one.path, one.rule) for one in found] == [(path, "protected_path")]


async def test_files_that_are_too_large_are_refused(bench: GitBench) -> None:
    (bench.tree / "large").write_bytes(b"\0" * 10_000_001)
    assert await bench.violations() == {("large", "size")}
    for number in range(6):
        (bench.tree / f"part{number}").write_bytes(os.urandom(1) * 9_000_000)
    assert (".", "size") in await bench.violations()


async def test_a_secret_is_refused_by_its_line_and_never_repeated(bench: GitBench) -> None:
    token = "ghp" + "_" + "a1B2" * 9
    write(bench.tree / "src" / "app.py", f"print(1)\n\nTOKEN = '{token}'\n")
    snapshot = await publish.take_snapshot(bench.worktree, bench.base)
    (found,) = snapshot.violations
    assert (found.path, found.rule) == ("src/app.py", "secret")
    assert "line 3" in found.message
    assert token not in repr(snapshot)


async def test_a_secret_that_was_there_before_is_not_this_runs_doing(tmp_path: Path) -> None:
    token = "ghp" + "_" + "a1B2" * 9
    bench = await make_bench(tmp_path / "bench", {"config.py": f"A = 1\nTOKEN = '{token}'\n"})
    write(bench.tree / "config.py", f"A = 2\nTOKEN = '{token}'\n")
    assert await bench.violations() == set()


async def test_folders_too_deep_for_a_path_are_refused_and_can_be_removed(bench: GitBench) -> None:
    folder = os.open(bench.tree, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deeper", dir_fd=folder)
        below = os.open("deeper", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    assert {rule for _, rule in await bench.violations()} == {"unreadable"}
    await bench.worktree.remove()
    assert not bench.tree.exists()


async def test_bytes_survive_checkout_and_commit_whatever_the_attributes_say(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "crlf.txt": b"a\r\nb\r\n",
        "mixed.txt": b"a\r\nb\nc\r",
        "ident.txt": b"$Id$ $Id: 0123 $\n",
        "wide.txt": "hällo\n".encode("utf-16"),
        "sub/lf.bat": b"a\nb\n",
    }
    source = make_source(tmp_path / "source", files)
    attributes = (
        "* text=auto eol=crlf\n*.bat text eol=crlf\nident.txt ident\n"
        "wide.txt text working-tree-encoding=UTF-16\nx.txt export-subst\n"
    )
    write(source / ".gitattributes", attributes)
    person(source, "-c", "core.safecrlf=false", "update-index", "--add", ".gitattributes")
    person(source, "commit", "--quiet", "--message=attributes")
    bench = await make_bench(tmp_path / "bench", source=source)
    for name, content in files.items():
        assert (bench.tree / name).read_bytes() == content
        (bench.tree / name).touch()
    assert (await publish.take_snapshot(bench.worktree, bench.base)).changes == ()
    (bench.tree / "new.txt").write_bytes(b"x\r\ny\n")
    commit = await bench.commit(bench.base)
    assert (await bench.mirror.read_files(commit, ["new.txt"]))["new.txt"] == b"x\r\ny\n"
