"""The `devflow` command as a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 240.0


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The code of the error that a command with `--json` ended with."""
        return str(self.json["error"]["code"])


class Cli:
    """The command with an environment of the test's own: its data folder, its database, nothing else of ours."""

    def __init__(self, data_dir: Path, database_url: str | None, **environment: str) -> None:
        self.data_dir = data_dir
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(data_dir),
            "PYTHONPATH": str(ROOT),
            "DEVFLOW_DATA_DIR": str(data_dir),
            "COLUMNS": "200",
            **environment,
        }
        if database_url is not None:
            self.environment["DEVFLOW_DATABASE_URL"] = database_url

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a command; the caller waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> Answer:
        """Run a command to its end; `environment` is added for this one."""
        process = self.start(*arguments, **environment)
        return finish(process)


def finish(process: "subprocess.Popen[str]", seconds: float = SECONDS) -> Answer:
    """Wait for a command and return how it ended; it is killed where it takes too long."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the command did not end: {out}\n{err}") from None
    return Answer(process.returncode, out, err)
