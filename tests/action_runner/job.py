"""One job's surroundings: fresh folders, the event's file, and the environment that GitHub gives to every step."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

# What makes the package index and the network reachable on the machine that runs the tests.
_MACHINE = ("LANG", "PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
FILES = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")
# What a step's own process may have of the runner's services, and an agent must never have.
SERVICES = {
    "ACTIONS_RUNTIME_TOKEN": "runtime-token-of-the-job",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "identity-token-of-the-job",
    "ACTIONS_ID_TOKEN_REQUEST_URL": "https://identity.example",
    "ACTIONS_RESULTS_URL": "https://results.example",
}


@dataclass(frozen=True)
class Host:
    """A GitHub and one repository on it; `token` is what `github.token` gives."""

    repository: str = "octo/answers"
    repository_id: int = 4711
    token: str = "ghs_token-of-the-job"
    api_url: str = "https://api.github.example"
    server_url: str = "https://github.example"
    default_branch: str = "main"


@dataclass
class Job:
    """The folders and variables of one job with one step that uses our action."""

    folder: Path
    action: Path
    host: Host
    event_name: str
    payload: Mapping[str, Any]
    actor: str
    run_id: int
    attempt: int
    environment: str
    extra: Mapping[str, str]
    tracking: str = field(default_factory=lambda: f"github_{uuid4()}")

    @property
    def temp(self) -> Path:
        """Return the folder that the runner empties for every job."""
        return self.folder / "temp"

    @property
    def workspace(self) -> Path:
        """Return the folder for a checkout."""
        return self.folder / "work"

    def prepare(self, files: Mapping[str, bytes | str]) -> None:
        """Make the folders, the event's file, and what a checkout would have brought."""
        for folder in (self.temp, self.workspace, self.folder / "home"):
            folder.mkdir(parents=True)
        (self.folder / "event.json").write_text(json.dumps(self.payload))
        for name, content in files.items():
            file = self.workspace / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def github(self) -> dict[str, Any]:
        """Return the context `github`, as far as a composite action of ours needs it."""
        return {
            "token": self.host.token,
            "action_path": str(self.action),
            "event_name": self.event_name,
            "repository": self.host.repository,
            "server_url": self.host.server_url,
            "api_url": self.host.api_url,
            "workspace": str(self.workspace),
            "run_id": str(self.run_id),
            "actor": self.actor,
            "job": "devflow",
        }

    def runner(self) -> dict[str, Any]:
        """Return the context `runner`."""
        return {"os": "Linux", "arch": "X64", "temp": str(self.temp), "environment": self.environment}

    def variables(self, added: Mapping[str, str], path: list[str]) -> dict[str, str]:
        """Return the environment of a step; `added` and `path` come from the steps before it."""
        kept = {name: value for name, value in os.environ.items() if name.upper().startswith(_MACHINE)}
        programs = [*path, str(Path(getattr(sys, "_base_executable", sys.executable)).parent)]
        return {
            **kept,
            **SERVICES,
            "PATH": os.pathsep.join([*programs, "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]),
            "HOME": str(self.folder / "home"),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(self.action),
            "GITHUB_ACTOR": self.actor,
            "GITHUB_API_URL": self.host.api_url,
            "GITHUB_EVENT_NAME": self.event_name,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_JOB": "devflow",
            "GITHUB_REF": f"refs/heads/{self.host.default_branch}",
            "GITHUB_REPOSITORY": self.host.repository,
            "GITHUB_REPOSITORY_ID": str(self.host.repository_id),
            "GITHUB_RUN_ATTEMPT": str(self.attempt),
            "GITHUB_RUN_ID": str(self.run_id),
            "GITHUB_SERVER_URL": self.host.server_url,
            "GITHUB_WORKFLOW": "Devflow",
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_ARCH": "X64",
            "RUNNER_ENVIRONMENT": self.environment,
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(self.temp),
            "RUNNER_TRACKING_ID": self.tracking,
            **self.extra,
            **added,
        }
