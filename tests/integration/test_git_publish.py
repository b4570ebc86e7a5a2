"""Commits on the run's branch and pushes of it: nothing is lost, nobody is overwritten, leftovers are cleared."""

import asyncio
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.domain.errors import DevflowError, Fenced
from engine.ports import Remote
from engine.workspace import git as git_module
from engine.workspace import publish
from engine.workspace.mirror import Mirror
from engine.workspace.push import delete_branch
from engine.workspace.worktree import Worktree
from tests.integration.git_bench import GitBench, make_bench, make_source, person


@pytest.fixture
async def bench(tmp_path: Path) -> GitBench:
    return await make_bench(tmp_path / "bench")


async def work(bench: GitBench, parent: str, name: str, *, epoch: int = 1) -> str:
    """Commit one new file on `parent`."""
    (bench.tree / name).write_text(name)
    return await bench.commit(parent, epoch=epoch)


def hook(bench: GitBench, name: str, script: str) -> None:
    path = bench.source / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def test_a_commit_has_code_artifact_and_trailers(bench: GitBench) -> None:
    (bench.tree / "src" / "app.py").write_text("print(2)\n")
    (bench.tree / "README.md").unlink()
    path = f".devflow/runs/{bench.run_id}/spec.json"
    commit = await bench.commit(bench.base, files={path: b"{}\n"}, message="Title\n\nDevflow-Run: forged\r\n\0x")
    await bench.push(commit, None)
    shown = person(bench.source, "log", "-1", "--format=%P|%an|%ce|%(trailers)", bench.branch)
    assert shown.split("|") == [
        bench.base,
        "Devflow",
        "devflow@noreply.invalid",
        f"Devflow-Run: {bench.run_id}\nDevflow-Phase: implement\nDevflow-Epoch: 1",
    ]
    changed = person(bench.source, "diff", "--name-status", bench.base, commit).splitlines()
    assert changed == [f"A\t{path}", "D\tREADME.md", "M\tsrc/app.py"]


async def test_a_commits_message_closes_nothing_tells_nobody_and_has_no_credential(bench: GitBench) -> None:
    token = "ghp_" + "a1B2" * 9
    path = f".devflow/runs/{bench.run_id}/spec.json"
    title = f"fixes #1 @octo GH-7 \u202e{token}"
    commit = await bench.commit(bench.base, files={path: b"{}\n"}, message=f"Specify\n\n{title}")
    said = person(bench.mirror.path, "log", "-1", "--format=%B", commit)
    assert said.startswith("Specify\n\nfixes #\u200b1 @\u200bocto GH-\u200b7 ")
    assert token not in said and "\u202e" not in said


async def test_a_phase_without_code_commits_its_artifact_alone(bench: GitBench) -> None:
    path = f".devflow/runs/{bench.run_id}/spec.json"
    commit = await bench.commit(bench.base, files={path: b"{}\n"})
    assert person(bench.mirror.path, "diff", "--name-only", bench.base, commit) == path


async def test_what_was_inspected_is_committed_even_if_the_worktree_changes_meanwhile(bench: GitBench) -> None:
    (bench.tree / "new.txt").write_text("inspected\n")
    snapshot = await publish.take_snapshot(bench.worktree, bench.base)
    (bench.tree / "new.txt").write_text("swapped\n")
    done = await publish.commit(snapshot, bench.branch, message="x", trailers={})
    assert (await bench.mirror.read_files(done.sha, ["new.txt"]))["new.txt"] == b"inspected\n"
    assert done.tree == snapshot.tree


async def test_the_excluded_working_copy_stays_out_and_the_parents_version_in(bench: GitBench) -> None:
    (bench.tree / "README.md").write_text("scribbled\n")
    (bench.tree / "out").mkdir()
    (bench.tree / "out" / "a").write_text("x")
    snapshot = await publish.take_snapshot(bench.worktree, bench.base, exclude=["README.md", "out"])
    assert (snapshot.changes, snapshot.tree) == ((), await bench.mirror.tree_of(bench.base))


async def test_a_snapshot_that_breaks_a_hard_rule_cannot_be_committed(bench: GitBench) -> None:
    (bench.tree / "link").symlink_to("/etc/passwd")
    with pytest.raises(DevflowError) as caught:
        await bench.commit(bench.base)
    assert caught.value.code == "protected_path"
    assert await bench.mirror.git.ref(f"refs/heads/{bench.branch}") is None


async def test_an_artifact_with_a_secret_cannot_be_committed(bench: GitBench) -> None:
    token = "ghp" + "_" + "a1B2" * 9
    files = {f".devflow/runs/{bench.run_id}/spec.json": f'{{"x": "{token}"}}\n'.encode()}
    assert [one.rule for one in await publish.inspect_files(files)] == ["secret"]
    with pytest.raises(DevflowError) as caught:
        await bench.commit(bench.base, files=files)
    assert caught.value.code == "protected_path"
    assert token not in str(caught.value)


async def test_the_engine_writes_nowhere_but_in_its_own_folder(bench: GitBench) -> None:
    for path in ("README.md", ".devflow/runs/../../x", ".devflow/config"):
        with pytest.raises(ValueError, match="folder"):
            await bench.commit(bench.base, files={path: b""})


async def test_a_repository_with_a_file_in_the_engines_place_is_told_so(tmp_path: Path) -> None:
    bench = await make_bench(tmp_path / "bench", {".devflow": "a file\n"})
    with pytest.raises(DevflowError, match="is no folder") as caught:
        await bench.commit(bench.base, files={f".devflow/runs/{bench.run_id}/a": b""})
    assert caught.value.code == "protected_path"


async def test_of_two_commits_on_one_parent_only_one_gets_the_branch(bench: GitBench) -> None:
    await work(bench, bench.base, "one")
    with pytest.raises(DevflowError) as caught:
        await work(bench, bench.base, "two")
    assert caught.value.code == "push_conflict"


async def test_a_push_that_was_not_seen_to_succeed_may_be_repeated(bench: GitBench) -> None:
    commit = await work(bench, bench.base, "one")
    await bench.push(commit, None)
    await bench.push(commit, None)
    assert person(bench.source, "rev-parse", bench.branch) == commit


async def test_a_branch_that_somebody_moved_is_not_overwritten(bench: GitBench) -> None:
    first = await work(bench, bench.base, "one")
    await bench.push(first, None)
    person(bench.source, "update-ref", f"refs/heads/{bench.branch}", bench.base)
    second = await work(bench, first, "two")
    with pytest.raises(DevflowError) as caught:
        await bench.push(second, first)
    assert caught.value.code == "push_conflict"
    assert f"the run's last commit on it is {first}" in caught.value.message
    assert person(bench.source, "rev-parse", bench.branch) == bench.base


async def test_a_branch_that_exists_already_is_not_overwritten(bench: GitBench) -> None:
    person(bench.source, "branch", bench.branch)
    with pytest.raises(DevflowError) as caught:
        await bench.push(await work(bench, bench.base, "one"), None)
    assert caught.value.code == "push_conflict"
    assert "the run has put nothing on it yet" in caught.value.message


async def test_a_hook_that_refuses_is_quoted(bench: GitBench) -> None:
    hook(bench, "pre-receive", "echo 'commits must be signed' >&2; exit 1")
    with pytest.raises(DevflowError, match="commits must be signed") as caught:
        await bench.push(await work(bench, bench.base, "one"), None)
    assert caught.value.code == "push_rejected"


async def test_a_hook_sees_nothing_of_this_process(bench: GitBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-hooks")
    hook(bench, "post-receive", f"env > {bench.root}/seen")
    await bench.push(await work(bench, bench.base, "one"), None)
    assert "not-for-hooks" not in (bench.root / "seen").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to somebody else")
async def test_hooks_of_a_repository_of_somebody_else_are_not_run(bench: GitBench) -> None:
    hook(bench, "post-receive", f"touch {bench.canary}")
    os.chown(bench.source / ".git", 12345, 12345)
    commit = await work(bench, bench.base, "one")
    await bench.push(commit, None)
    assert not bench.canary.exists()
    assert (await make_bench(bench.root / "again", source=bench.source)).base == bench.base


async def test_a_branch_whose_name_is_a_folder_of_ours_is_a_rejection(bench: GitBench) -> None:
    person(bench.source, "branch", "devflow")
    with pytest.raises(DevflowError) as caught:
        await bench.push(await work(bench, bench.base, "one"), None)
    assert caught.value.code == "push_rejected"


async def test_a_repository_that_is_gone_pauses_the_run_instead_of_ending_it(bench: GitBench) -> None:
    commit = await work(bench, bench.base, "one")
    bench.source.rename(bench.root / "moved")
    for publishing in (lambda: bench.push(commit, None), lambda: bench.drop(bench.base, None, epoch=1)):
        with pytest.raises(DevflowError) as caught:
            await publishing()
        assert caught.value.code == "repository_not_found"
        assert "resume" in caught.value.recovery_hint


async def test_a_credential_travels_in_the_environment_and_in_no_message(bench: GitBench) -> None:
    secret = "s3cret-" + "v" * 20
    environment = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader", "GIT_CONFIG_VALUE_0": secret}
    mirror = Mirror(bench.mirror.path, 1, Remote("http://user:pw@127.0.0.1:9/x.git", environment))
    with pytest.raises(DevflowError) as caught:
        await mirror.fetch("main")
    assert secret not in str(caught.value) + repr(mirror)
    assert "pw" not in str(caught.value)
    assert secret not in (bench.mirror.path / "config").read_text()


async def test_a_commit_that_was_never_recorded_is_dropped_here_and_there(bench: GitBench) -> None:
    first = await work(bench, bench.base, "one")
    await bench.push(first, None)
    lost = await work(bench, first, "two")
    await bench.push(lost, first)
    assert await bench.drop(first, first, epoch=2) == [lost]
    assert person(bench.source, "rev-parse", bench.branch) == first
    again = await work(bench, first, "three", epoch=2)
    await bench.push(again, first)
    assert await bench.drop(again, again, epoch=2) == []


async def test_a_commit_that_was_not_pushed_yet_is_dropped_as_well(bench: GitBench) -> None:
    lost = await work(bench, bench.base, "one")
    assert await bench.drop(bench.base, None, epoch=2) == [lost]
    again = await work(bench, bench.base, "two", epoch=2)
    await bench.push(again, None)


async def test_a_branch_that_no_row_knows_is_deleted_again(bench: GitBench) -> None:
    lost = await work(bench, bench.base, "one")
    await bench.push(lost, None)
    assert await bench.drop(bench.base, None, epoch=2) == [lost]
    assert person(bench.source, "branch", "--list", bench.branch) == ""


async def test_another_machine_with_a_new_mirror_drops_it_too(bench: GitBench) -> None:
    first = await work(bench, bench.base, "one")
    await bench.push(first, None)
    lost = await work(bench, first, "two")
    await bench.push(lost, first)
    person(bench.source, "pack-refs", "--all")
    other = await Mirror.open(bench.root / "elsewhere", bench.facts.repository_id, bench.mirror.remote)
    await other.fetch(bench.branch, first)
    bench.mirror = other
    assert await bench.drop(first, first, epoch=2) == [lost]
    assert await other.head_of_remote(bench.branch) == first


async def test_a_persons_commit_is_never_dropped(bench: GitBench) -> None:
    first = await work(bench, bench.base, "one")
    await bench.push(first, None)
    person(bench.source, "worktree", "add", "--quiet", str(bench.root / "side"), bench.branch)
    for arguments in (["--allow-empty", "--message=by hand"], ["--amend", "--no-edit", "--allow-empty"]):
        person(bench.root / "side", "commit", "--quiet", *arguments)
        head = person(bench.source, "rev-parse", bench.branch)
        with pytest.raises(DevflowError) as caught:
            await bench.drop(first, first, epoch=9)
        assert caught.value.code == "push_conflict"
        assert f"the run's last commit on it is {first}" in caught.value.message
        assert person(bench.source, "rev-parse", bench.branch) == head


async def test_our_commit_amended_by_a_person_is_theirs(bench: GitBench) -> None:
    first = await work(bench, bench.base, "one")
    await bench.push(first, None)
    second = await work(bench, first, "two")
    await bench.push(second, first)
    person(bench.source, "worktree", "add", "--quiet", str(bench.root / "side"), bench.branch)
    person(bench.root / "side", "commit", "--quiet", "--amend", "--no-edit", "--allow-empty")
    with pytest.raises(DevflowError) as caught:
        await bench.drop(first, first, epoch=9)
    assert caught.value.code == "push_conflict"


async def test_a_commit_of_a_later_epoch_fences_the_one_who_finds_it(bench: GitBench) -> None:
    await work(bench, bench.base, "one", epoch=3)
    with pytest.raises(Fenced):
        await bench.drop(bench.base, None, epoch=2)


async def test_a_report_is_committed_without_a_worktree(bench: GitBench) -> None:
    first = await work(bench, bench.base, "one")
    await bench.worktree.remove()
    path = f".devflow/runs/{bench.run_id}/report.json"
    commit = await publish.commit_files(
        bench.mirror, bench.branch, parent=first, message="Report", trailers={}, files={path: b"{}\n"}
    )
    assert person(bench.mirror.path, "diff", "--name-only", first, commit) == path


async def test_a_branch_is_deleted_only_where_it_was_left(bench: GitBench) -> None:
    first = await work(bench, bench.base, "one")
    await bench.push(first, None)
    with pytest.raises(DevflowError):
        await delete_branch(bench.mirror, bench.branch, expected=bench.base)
    await delete_branch(bench.mirror, bench.branch, expected=first)
    await delete_branch(bench.mirror, bench.branch, expected=first)
    assert person(bench.source, "branch", "--list", bench.branch) == ""


async def test_a_worktree_that_is_intact_is_opened_and_not_made_again(bench: GitBench) -> None:
    (bench.tree / "kept").write_text("x")
    again = await Worktree.open(bench.mirror, bench.workspaces, bench.run_id, bench.base)
    assert again.token == bench.worktree.token
    assert (again.path / "kept").exists()


@pytest.mark.parametrize("damage", ["folder", "gitfile", "token"])
async def test_a_worktree_that_is_damaged_is_made_again(bench: GitBench, damage: str) -> None:
    (bench.tree / "lost").write_text("x")
    if damage == "folder":
        subprocess.run(["rm", "-rf", bench.tree], check=True)
    elif damage == "gitfile":
        (bench.tree / ".git").write_text("gitdir: /elsewhere")
    else:
        (bench.worktree.admin / "token").unlink()
    again = await Worktree.open(bench.mirror, bench.workspaces, bench.run_id, bench.base)
    assert again.token != bench.worktree.token
    assert sorted(path.name for path in again.path.iterdir()) == [".git", "README.md", "src"]


async def test_a_removed_worktree_leaves_nothing(bench: GitBench) -> None:
    locked = bench.tree / "locked"
    (locked / "in").mkdir(parents=True)
    (locked / "in" / "file").write_text("x")
    (locked / "in").chmod(stat.S_IRUSR)
    await bench.worktree.remove()
    await bench.worktree.remove()
    assert list(bench.workspaces.iterdir()) == []
    assert not bench.worktree.admin.exists()


async def test_reset_keeps_what_is_ignored_and_what_is_asked_for(tmp_path: Path) -> None:
    bench = await make_bench(tmp_path / "bench", {".gitignore": "cache/\n", "a/b": "x", "c": "y"})
    for name in ("cache/x", "kept/x", "stray/x", "c/now/a/folder"):
        if name.startswith("c/"):
            (bench.tree / "c").unlink()
        (bench.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (bench.tree / name).write_text("x")
    (bench.tree / "a" / "b").unlink()
    (bench.tree / "a").rmdir()
    (bench.tree / "a").symlink_to("/tmp")
    make_source(bench.tree / "nested")
    token = bench.worktree.token
    await bench.worktree.reset_to(bench.base, ["kept"])
    assert (bench.tree / "a" / "b").read_text() == "x"
    assert (bench.tree / "c").read_text() == "y"
    assert (bench.tree / "cache" / "x").exists()
    assert (bench.tree / "kept" / "x").exists()
    assert not (bench.tree / "stray").exists()
    assert not (bench.tree / "nested" / ".git").exists()
    assert (await bench.worktree.store(bench.base, ["kept"])).changes == ()
    again = await Worktree.open(bench.mirror, bench.workspaces, bench.run_id, bench.base)
    assert again.token == token


async def test_changed_paths_name_new_folders_once(bench: GitBench) -> None:
    first = await work(bench, bench.base, "one")
    (bench.tree / "one").touch()
    (bench.tree / "lib" / "deep").mkdir(parents=True)
    (bench.tree / "lib" / "deep" / "x").write_text("x")
    (bench.tree / "src" / "new.py").write_text("x")
    (bench.tree / "src" / "app.py").write_text("x")
    assert await bench.worktree.changed_paths(first) == ["lib", "src/app.py", "src/new.py"]


async def test_cancelling_ends_git_and_its_children(bench: GitBench) -> None:
    hook(bench, "pre-receive", f"echo $$ > {bench.root}/pid; exec sleep 60")
    commit = await work(bench, bench.base, "one")
    task = asyncio.create_task(bench.push(commit, None))
    pid_file = bench.root / "pid"
    while not (pid_file.exists() and pid_file.read_text().strip()):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    state = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and state.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert not state.exists() or state.read_text().split()[2] == "Z"


async def test_a_full_disk_is_named(bench: GitBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'fatal: write error: No space left on device' >&2\nexit 128\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(DevflowError) as caught:
        await bench.worktree.store(bench.base)
    assert caught.value.code == "storage_full"


@pytest.mark.parametrize("answer", ["git version 2.38.1", ""])
async def test_an_old_git_or_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    if answer:
        (tmp_path / "git").write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DevflowError) as caught:
        await git_module.check_version()
    assert caught.value.code == "platform_unsupported"


def test_commit_and_push_stand_between_failure_points(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from tests.integration.git_bench import make_bench\n"
        "async def main():\n"
        "    bench = await make_bench(Path(sys.argv[1]))\n"
        "    (bench.tree / 'x').write_text('x')\n"
        "    await bench.push(await bench.commit(bench.base), None)\n"
        "asyncio.run(main())\n"
    )
    log = tmp_path / "log"
    env = {**os.environ, "DEVFLOW_FAILPOINT_LOG": str(log), "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "bench")], env=env, check=True)
    points = [line for line in log.read_text().split() if line.startswith("git")]
    assert points == ["git_commit.before", "git_commit.after", "git_push.before", "git_push.after"]


async def test_three_thousand_files_are_checked_out_once_and_inspected_quickly(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"d{n % 50}/f{n}.txt": f"{n}\n" * 10 for n in range(3000)}
    bench = await make_bench(tmp_path / "bench", files)
    (bench.tree / "d0" / "f0.txt").write_text("changed\n")
    begun = time.monotonic()
    snapshot = await publish.take_snapshot(bench.worktree, bench.base)
    assert [one.path for one in snapshot.changes] == ["d0/f0.txt"]
    assert time.monotonic() - begun < 5
