"""Small git repositories that tests run workflows on, and git as a person's hands."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.invalid",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.invalid",
}


def git(repository: Path, *arguments: str) -> str:
    """Run git there as a person would, and return its output without the final newline."""
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout.removesuffix("\n")


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write files by relative path."""
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def commit_files(repository: Path, files: Mapping[str, str], message: str = "Change") -> str:
    """Commit these files on the branch that is checked out; returns the commit."""
    write_files(repository, files)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", message)
    return git(repository, "rev-parse", "HEAD")


def make_repository(folder: Path, files: Mapping[str, str]) -> Path:
    """Make a repository with one commit on `main` that has these files; returns its folder."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit_files(folder, files, "Begin")
    return folder
