"""Files beneath a folder that somebody hostile writes to."""

import ctypes
import os
import threading
from pathlib import Path

import pytest

from engine.workspace import files
from engine.workspace.files import UnsafePath

RENAME_EXCHANGE = 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_bytes(b"print(1)\n")
    (tmp_path / "secret").write_text("the secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.py").write_text("the secret")
    return root


def test_reads_and_writes_beneath_the_root(root: Path) -> None:
    files.write_bytes(root, "new/deep/file.txt", b"content")

    assert files.read_bytes(root, "new/deep/file.txt") == b"content"
    assert files.read_bytes(root, "./src//a.py") == b"print(1)\n"
    assert files.exists(root, "new/deep/file.txt")


@pytest.mark.parametrize("path", ["../secret", "src/../../secret", "/etc/passwd", "", ".", "a\0b"])
def test_paths_that_lead_out_or_nowhere_are_refused(root: Path, path: str) -> None:
    with pytest.raises(UnsafePath):
        files.read_bytes(root, path)
    with pytest.raises(UnsafePath):
        files.write_bytes(root, path, b"x")


def test_symbolic_links_are_not_followed_anywhere(root: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path / "outside")

    for path in ("link", "folder/a.py"):
        with pytest.raises(UnsafePath):
            files.read_bytes(root, path)
        with pytest.raises(UnsafePath):
            files.write_bytes(root, path, b"x")
        assert not files.exists(root, path)
    with pytest.raises(UnsafePath):
        files.list_folder(root, "folder")
    assert (tmp_path / "secret").read_text() == "the secret"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["a.py"]


def test_a_folder_that_is_exchanged_for_a_link_meanwhile_leads_nowhere(root: Path, tmp_path: Path) -> None:
    os.symlink(tmp_path / "outside", root / "link")
    libc = ctypes.CDLL(None)
    stop = threading.Event()

    def exchange() -> None:
        # atomically, so that there is always something at both names
        while not stop.is_set():
            libc.renameat2(-100, bytes(root / "src"), -100, bytes(root / "link"), RENAME_EXCHANGE)

    hostile = threading.Thread(target=exchange)
    hostile.start()
    seen: set[bytes] = set()
    try:
        for _ in range(2000):
            try:
                seen.add(files.read_bytes(root, "src/a.py"))
                files.write_bytes(root, "src/a.py", b"written\n")
            except (OSError, UnsafePath):
                continue
    finally:
        stop.set()
        hostile.join()

    assert seen
    assert seen <= {b"print(1)\n", b"written\n"}
    assert (tmp_path / "outside" / "a.py").read_text() == "the secret"


@pytest.mark.timeout(20)
def test_pipes_devices_and_folders_are_no_files(root: Path) -> None:
    os.mkfifo(root / "pipe")

    for path in ("pipe", "src"):
        with pytest.raises(UnsafePath):
            files.read_bytes(root, path)
        with pytest.raises(UnsafePath):
            files.write_bytes(root, path, b"x")
        assert not files.exists(root, path)


@pytest.mark.parametrize(
    "path",
    [".git", ".git/config", "sub/.git/hooks/pre-commit", ".GIT/config", ".devflow/runs/1/spec.json", ".devflow/runs"],
)
def test_what_is_the_engines_alone_cannot_be_written(root: Path, path: str) -> None:
    with pytest.raises(UnsafePath, match="only the engine"):
        files.write_bytes(root, path, b"x")

    assert sorted(entry.path for entry in files.list_folder(root)) == ["src"]


def test_other_files_of_devflow_and_names_like_git_can_be_written(root: Path) -> None:
    for path in (".gitignore", ".devflow/artifacts/spec.json", "devflow/runs/x", ".github/x"):
        files.write_bytes(root, path, b"x")
        assert files.read_bytes(root, path) == b"x"


def test_a_file_that_is_too_large_is_refused(root: Path) -> None:
    (root / "big").write_bytes(b"x" * 101)

    with pytest.raises(UnsafePath, match="larger than 100 bytes"):
        files.read_bytes(root, "big", limit=100)
    assert len(files.read_bytes(root, "big", limit=101)) == 101


def test_writing_keeps_the_mode_and_leaves_nothing_else(root: Path) -> None:
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)

    files.write_bytes(root, "tool", b"#!/bin/sh\necho new\n")

    assert (root / "tool").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in root.iterdir()) == ["src", "tool"]


def test_missing_files_are_missing(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read_bytes(root, "no/such")
    assert not files.exists(root, "no/such")


def test_walking_lists_files_and_links_in_order_and_skips_git(root: Path, tmp_path: Path) -> None:
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "b.txt").write_text("12")

    found = files.walk(root, limit=100)

    assert [(entry.path, entry.kind) for entry in found] == [("b.txt", "file"), ("link", "link"), ("src/a.py", "file")]
    assert found[0].size == 2
    assert len(files.walk(root, limit=2)) == 2
