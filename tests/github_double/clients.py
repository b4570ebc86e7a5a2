"""What tests of and with the double use around it: PyGithub, git, a clock to step, a receiver of webhooks."""

import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import github
from github import Auth

from tests.github_double.bare import environment
from tests.github_double.double import GitHubDouble

_PATIENCE: dict[str, Any] = {"seconds_between_requests": None, "seconds_between_writes": None, "retry": None}


@contextmanager
def client(double: GitHubDouble, token: str | None) -> Iterator[github.Github]:
    """PyGithub with a token, without its pauses and retries."""
    auth = None if token is None else Auth.Token(token)
    made = github.Github(auth=auth, base_url=double.api_url, api_version="2026-03-10", **_PATIENCE)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def app_client(
    double: GitHubDouble, app_id: int | None = None, key: str | None = None
) -> Iterator[github.GithubIntegration]:
    """PyGithub as the App itself, or with another id or key."""
    auth = Auth.AppAuth(app_id or double.app.id, key or double.app.private_key_pem)
    made = github.GithubIntegration(auth=auth, base_url=double.api_url, api_version="2026-03-10", **_PATIENCE)
    try:
        yield made
    finally:
        made.close()


class SteppedClock:
    """A clock that stands still until it is stepped."""

    def __init__(self, at: datetime | None = None) -> None:
        self.at = at or datetime.now(UTC)

    def __call__(self) -> datetime:
        """Return its time."""
        return self.at

    def step(self, seconds: float) -> None:
        """Go on by so many seconds."""
        self.at += timedelta(seconds=seconds)


def git(
    folder: Path, *arguments: str, token: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run git in a folder with a token for HTTP, untouched by the machine's configuration."""
    variables = environment(folder) | {
        "GIT_AUTHOR_NAME": "devflow",
        "GIT_AUTHOR_EMAIL": "devflow@example.org",
        "GIT_COMMITTER_NAME": "devflow",
        "GIT_COMMITTER_EMAIL": "devflow@example.org",
    }
    if token is not None:
        basic = b64encode(f"x-access-token:{token}".encode()).decode()
        variables |= {
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_1": "http.extraHeader",
            "GIT_CONFIG_VALUE_1": f"Authorization: Basic {basic}",
        }
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=variables, check=check, capture_output=True, text=True, timeout=60
    )


class Receiver:
    """A server for webhooks that keeps what came; `statuses` are given in order, then 202; `pause` holds answers."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.open = threading.Event()
        self.open.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((dict(self.headers.items()), body))
                receiver.open.wait(10)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 202)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks/github"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def events(self) -> list[str]:
        """The names of the events that came, in order."""
        return [headers["X-GitHub-Event"] for headers, _ in self.received]
