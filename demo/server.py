"""The real `devflow serve` as a process of its own, before a GitHub double; for the demo and the measurements."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.github_double import GitHubDouble
from tests.github_double.environment import environment

_HERE = Path(__file__).parent
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
CASSETTE = _HERE / "cassette.yaml"


def sample_files() -> dict[str, str]:
    """Return the sample repository: path to content."""
    folder = _HERE / "sample"
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def sample_issue() -> tuple[str, str]:
    """Return title and body of the issue that the recorded agent knows how to work."""
    heading, _, text = (_HERE / "issue.md").read_text().partition("\n")
    return heading.removeprefix("# "), text.strip()


@contextmanager
def serving(github: GitHubDouble, folder: Path, variables: Mapping[str, str], *arguments: str) -> Iterator[str]:
    """Run the server until the block ends, its data and its log (`server.log`) in `folder`; yields the door's URL."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "app.cli", "serve", "--port", "0", *arguments]
    given = os.environ | environment(github) | {"DEVFLOW_DATA_DIR": str(folder / "data")} | dict(variables)
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=given, stderr=stream)
    try:
        github.webhook_url = _door(process, log)
        yield github.webhook_url
        github.wait_deliveries()
    finally:
        github.webhook_url = None
        process.terminate()
        process.wait(timeout=_STOP_SECONDS)


def _door(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Return where the server listens, once it says so; raises where it ended instead."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        found = re.search(r"Listening on (\S+)", log.read_text())
        if found is not None:
            return found[1]
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")
