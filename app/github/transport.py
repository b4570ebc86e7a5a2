"""The HTTP layer under every call: PyGithub's Requester in a bounded number of threads, without its own initiative.

A Requester keeps the request that is under way in itself, so that each thread has its own. Redirects come up as `Moved`
(PyGithub would follow them with any verb and lose the query), nothing sleeps and nothing is tried again, and nothing
is logged, because PyGithub would log whole answers, new tokens among them.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import requests
from github import Auth, GithubException
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester, RequestsResponse

from app import VERSION
from app.github.faults import Moved

API_VERSION = "2022-11-28"  # GitHub Enterprise Server knows no later one yet
PER_PAGE = 100
_REDIRECTS = (301, 302, 303, 307, 308)
_NOT_READY = 202

_SILENT = logging.getLogger("devflow.pygithub")
_SILENT.setLevel(logging.CRITICAL + 1)
_SILENT.propagate = False


@dataclass(frozen=True)
class Call:
    """One request to the API: the path below the API's URL (or `GRAPHQL`), the query, the JSON body."""

    verb: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


GRAPHQL = "graphql"


@dataclass(frozen=True)
class Reply:
    """A 2xx answer: its headers by their names in lower case, and its JSON (None: no body)."""

    headers: Mapping[str, str]
    data: Any = field(repr=False)


class _Line(threading.local):
    """The one session of this thread, whose connections stay open between requests."""

    session: requests.Session


_line = _Line()


class _Credential(Auth.Auth):
    """Whatever the call under way in this thread authenticates with."""

    def __init__(self) -> None:
        self.current: Auth.Auth | None = None

    @property
    def token_type(self) -> str:
        return self.current.token_type if self.current else ""

    @property
    def token(self) -> str:
        return self.current.token if self.current else ""


class _Connection:
    """What a Requester sends one request through."""

    protocol = ""
    default_port = 0

    def __init__(self, host: str, port: int | None = None, timeout: int | None = None, **_: Any) -> None:
        self.host = host
        self._origin = f"{self.protocol}://{host}:{port or self.default_port}"
        self._timeout = timeout

    def request(self, verb: str, url: str, input: Any, headers: dict[str, str], stream: bool = False) -> None:  # noqa: A002
        """Keep the request for `getresponse`."""
        self._request = (verb, url, input, headers)

    def getresponse(self) -> RequestsResponse:
        """Send the request; raises `Moved` for a redirect."""
        verb, url, body, headers = self._request
        response = _line.session.request(
            verb, self._origin + url, headers=headers, data=body, timeout=self._timeout, allow_redirects=False
        )
        if response.status_code in _REDIRECTS:
            raise Moved(response.headers.get("location", ""))
        if response.status_code == _NOT_READY and verb == "GET":
            raise GithubException(_NOT_READY, None, dict(response.headers), "not ready")
        response.encoding = "utf-8"
        return RequestsResponse(response)

    def close(self) -> None:
        """Do nothing: the session stays open for the thread's next request."""


class _Http(_Connection, HTTPRequestsConnectionClass):
    protocol, default_port = "http", 80


class _Https(_Connection, HTTPSRequestsConnectionClass):
    protocol, default_port = "https", 443


class _Requester(Requester):
    """PyGithub's Requester with the connections and the silence of this module."""


_Requester.injectConnectionClasses(_Http, _Https)
_Requester.injectLogger(_SILENT)


class Transport:
    """Sends calls to the API at `api_url`, at most `threads` at once, each with a time limit on silence."""

    def __init__(self, api_url: str, *, threads: int, timeout_seconds: int) -> None:
        self._api_url = api_url.rstrip("/")
        self._timeout = timeout_seconds
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="github", initializer=self._begin)
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    async def send(self, call: Call, credential: Auth.Auth) -> Reply:
        """Send one call; raises what PyGithub and requests raise, and `Moved`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._send, call, credential)

    async def close(self) -> None:
        """Wait for the calls under way and close every connection."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for session in self._sessions:
            session.close()

    def _begin(self) -> None:
        _line.session = requests.Session()
        _line.session.auth = Requester.noopAuth  # anything but None keeps requests from reading ~/.netrc
        self._sessions.append(_line.session)
        self._local.credential = _Credential()
        self._local.requester = _Requester(
            auth=self._local.credential,
            base_url=self._api_url,
            timeout=self._timeout,
            user_agent=f"devflow/{VERSION}",
            per_page=PER_PAGE,
            verify=True,
            retry=0,
            pool_size=None,
            lazy=True,
            api_version=API_VERSION,
        )

    def _send(self, call: Call, credential: Auth.Auth) -> Reply:
        requester: Requester = self._local.requester
        self._local.credential.current = credential
        try:
            url = requester.graphql_url if call.path == GRAPHQL else call.path
            headers, data = requester.requestJsonAndCheck(call.verb, url, dict(call.query), None, call.body)
        finally:
            self._local.credential.current = None
        return Reply({name.lower(): str(value) for name, value in headers.items()}, data)
