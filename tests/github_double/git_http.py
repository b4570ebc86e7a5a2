"""Git over HTTP: `git http-backend` as a CGI program, behind the tokens of the API.

After a push the refs are compared with what was known, and the webhooks that follow are sent.
"""

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starlette.responses import Response

from tests.github_double import auth
from tests.github_double.auth import Caller
from tests.github_double.bare import environment
from tests.github_double.refusal import Refused
from tests.github_double.repository import Repository
from tests.github_double.world import World

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="GitHub"'}


@cache
def _backend() -> str:
    git = shutil.which("git") or "git"
    found = Path(subprocess.run([git, "--exec-path"], capture_output=True, check=True, text=True).stdout.strip())
    return str(found / "git-http-backend")


def serve(
    world: World, method: str, name: str, rest: str, query: str, headers: Mapping[str, str], body: bytes
) -> tuple[Response, str]:
    """Answer a request of git for `owner/name`; returns the answer and the kind of the caller."""
    writes = rest == "git-receive-pack" or "service=git-receive-pack" in query
    try:
        caller = auth.authenticate(world, headers.get("authorization"))
    except Refused as refused:
        status = 401 if refused.status == 404 else refused.status
        return _plain(status, "Invalid username or token.", _CHALLENGE if status == 401 else {}), "none"
    with world.lock:
        found = world.find_repository(name)
        if found is None and (moved := world.repositories.get(world.moved.get(name.lower(), 0))) is not None:
            target = f"{world.server_url}/{moved.full_name}.git/{rest}" + (f"?{query}" if query else "")
            return _plain(301, "Moved", {"Location": target}), caller.kind
        refused_with = _refuse(found, caller, writes)
    if refused_with is not None or found is None:
        return refused_with or _plain(404, "Repository not found."), caller.kind
    answer = _run(found, caller, method, rest, query, headers, body)
    if rest == "git-receive-pack":
        found.refs_changed(caller.acting())
    return answer, caller.kind


def _refuse(repository: Repository | None, caller: Caller, writes: bool) -> Response | None:
    if repository is None or (not auth.sees(caller, repository) and (writes or repository.private)):
        # Without credentials, git is asked for some before anything is told.
        if caller.kind == "none":
            return _plain(401, "No anonymous write access." if writes else "Repository not found.", _CHALLENGE)
        return _plain(404, "Repository not found.")
    if caller.kind == "none":
        return _plain(401, "No anonymous write access.", _CHALLENGE) if writes else None
    if caller.kind == "app":
        return _plain(401, "Invalid username or token.", _CHALLENGE)
    try:
        if writes or repository.private:
            auth.require(caller, repository, ("contents:write",) if writes else ("contents:read",))
    except Refused:
        if repository.archived and writes:
            return _plain(403, "This repository was archived so it is read-only.")
        login = caller.user.login if caller.user else "you"
        words = f"Permission to {repository.full_name}.git denied to {login}."
        return _plain(403, words if writes else "Write access to repository not granted.")
    return None


def _plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text + "\n", status, dict(headers or {}), "text/plain; charset=utf-8")


def _run(
    repository: Repository, caller: Caller, method: str, rest: str, query: str, headers: Mapping[str, str], body: bytes
) -> Response:
    folder = repository.git_dir
    variables = environment(folder) | {
        "GIT_PROJECT_ROOT": str(folder.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{folder.name}/{rest}",
        "QUERY_STRING": query,
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_USER": caller.user.login if caller.user else "",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    for header, variable in (("content-encoding", "HTTP_CONTENT_ENCODING"), ("git-protocol", "GIT_PROTOCOL")):
        if header in headers:
            variables[variable] = headers[header]
    done = subprocess.run([_backend()], input=body, capture_output=True, check=False, env=variables, cwd=folder)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    status, answer_headers = 200, {}
    for line in head.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        elif name:
            answer_headers[name] = value.strip()
    if not head:
        return _plain(500, done.stderr.decode(errors="replace"))
    return Response(content, status, answer_headers)
