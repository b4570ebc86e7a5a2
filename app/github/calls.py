"""How a call to GitHub is made, whatever it asks for: credential, pacing, rate limits, pages, faults.

Between the clients (what to ask) and the transport (HTTP). A rate limit that GitHub reported is kept here, and until it
is over nothing more of that installation is sent. Every write passes `Caller.write`, and only there the failure point.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

from github import Auth
from requests.utils import parse_header_links

from app.clock import Clock
from app.github.faults import HostFault, Moved, Refused, RetryLater, Unauthorised, graphql_fault, translate
from app.github.reading import Fields, Unreadable, as_list, as_object
from app.github.transport import GRAPHQL, PER_PAGE, Call, Reply, Transport
from engine import failpoints

_MOST_PAGES = 100  # an issue takes no more than 2,500 comments
_MOST_HOPS = 3
_BURST = 30

T = TypeVar("T")


class Access(Protocol):
    """With what calls are authenticated, and to whose allowance they count."""

    @property
    def allowance(self) -> str:
        """Name of what GitHub counts the calls for."""

    async def credential(self) -> Auth.Auth:
        """Return the credential to use now."""

    def drop(self, credential: Auth.Auth) -> None:
        """Forget a credential that GitHub does not take any more."""


class Caller:
    """Makes calls; writes of one allowance come every `seconds_between_writes` in the long run, up to 30 at once.

    GitHub takes 900 points a minute, and a write costs 5: 30 at once and one each 0.4 s are never more.
    """

    def __init__(self, transport: Transport, clock: Clock, *, seconds_between_writes: float) -> None:
        self._transport = transport
        self._clock = clock
        self._gap = seconds_between_writes
        self._limited_until: dict[str, datetime] = {}
        self._next_write: defaultdict[str, float] = defaultdict(float)

    async def read(self, call: Call, access: Access) -> Reply:
        """Make a call that changes nothing that people see; raises a fault, or `Moved`."""
        return await self._send(call, access)

    async def write(self, call: Call, access: Access) -> Reply:
        """Make a call that changes something at GitHub; raises a fault, or `Moved` where nothing was changed.

        After `RetryLater` without a time the change may have been made all the same.
        """
        await self._pace(access.allowance)
        with failpoints.around(failpoints.Effect.HOST_CALL):
            return await self._send(call, access)

    async def follow(self, call: Call, access: Access, api_url: str) -> Reply:
        """Make a GET and follow redirects, inside the API only."""
        for _ in range(_MOST_HOPS):
            try:
                return await self.read(call, access)
            except Moved as moved:
                call = _redirected(call, moved.location, api_url)
        raise Refused(301, f"{call}: too many redirects")

    async def pages(self, call: Call, access: Access, inside: str = "") -> AsyncIterator[list[Fields]]:
        """Yield a list page by page, 100 items each; `inside` names the field that it is in, where it is in one."""
        path, query = call.path, {"per_page": PER_PAGE, **call.query}
        for _ in range(_MOST_PAGES):
            reply = await self.read(Call("GET", path, query), access)
            yield self.understand(call, partial(_items, inside), reply.data)
            following = _next_page(reply.headers)
            if following is None:
                return
            query |= following
        raise Refused(422, f"{call}: more than {_MOST_PAGES} pages")

    async def mutate(self, name: str, values: Mapping[str, str], result: str, access: Access) -> None:
        """Carry out a GraphQL mutation with the input `values`; `result` is the selection that it answers with."""
        kind = f"{name[0].upper()}{name[1:]}Input!"
        text = f"mutation Mutation($input: {kind}) {{ {name}(input: $input) {{ {result} }} }}"
        call = Call("POST", GRAPHQL, body={"query": text, "variables": {"input": dict(values)}})
        await self._graphql(name, call, self.write, access)

    async def query(self, name: str, text: str, variables: Mapping[str, Any], access: Access) -> Fields:
        """Ask by GraphQL and return the answer's `data`; `name` is what the question is called in messages."""
        call = Call("POST", GRAPHQL, body={"query": text, "variables": dict(variables)})
        answer = await self._graphql(name, call, self.read, access)
        return self.understand(name, _data_of, answer)

    async def _graphql(
        self, name: str, call: Call, send: Callable[[Call, Access], Awaitable[Reply]], access: Access
    ) -> Fields:
        try:
            reply = await send(call, access)
        except Moved:
            raise Refused(301, f"{name}: GitHub redirects its GraphQL address") from None
        answer = self.understand(call, as_object, reply.data)
        errors = answer.data.get("errors")
        if errors:
            found = errors if isinstance(errors, list) else []
            raise self._noted(graphql_fault(found, self._clock.now(), name, reply.headers), access.allowance)
        return answer

    def understand(self, what: Call | str, read: Callable[[Any], T], data: Any) -> T:
        """Return what `read` makes of an answer; one that is not as documented is a `RetryLater`."""
        try:
            return read(data)
        except Unreadable as error:
            raise translate(error, self._clock.now(), str(what)) from None

    async def _send(self, call: Call, access: Access) -> Reply:
        until = self._limited_until.get(access.allowance)
        if until is not None and self._clock.now() < until:
            raise RetryLater("GitHub's rate limit is reached", until)
        fault = await self._try(call, access)
        if isinstance(fault, Unauthorised):
            # a token can be revoked before its end; a new one tells whether that was it
            fault = await self._try(call, access)
        if isinstance(fault, Reply):
            return fault
        raise self._noted(fault, access.allowance)

    async def _try(self, call: Call, access: Access) -> Reply | HostFault:
        credential = await access.credential()
        try:
            return await self._transport.send(call, credential)
        except Moved:
            raise
        except Exception as error:  # noqa: BLE001 - translated: PyGithub lets out what an odd answer makes of its code
            fault = translate(error, self._clock.now(), str(call))
        if isinstance(fault, Unauthorised):
            access.drop(credential)
        return fault

    def _noted(self, fault: HostFault, allowance: str) -> HostFault:
        if isinstance(fault, RetryLater) and fault.at is not None:
            self._limited_until[allowance] = fault.at
        return fault

    async def _pace(self, allowance: str) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = max(now, self._next_write[allowance])
        self._next_write[allowance] = due + self._gap
        await asyncio.sleep(max(0.0, due - (_BURST - 1) * self._gap - now))


def _items(inside: str, data: Any) -> list[Fields]:
    return list(as_object(data).children(inside) if inside else as_list(data))


def _data_of(answer: Fields) -> Fields:
    return answer.child("data")


def _next_page(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the query of the next page; only the query, so that no answer sends us to another address."""
    for link in parse_header_links(headers.get("link", "")):
        if link.get("rel") == "next":
            return dict(parse_qsl(urlsplit(link.get("url", "")).query))
    return None


def _redirected(call: Call, location: str, api_url: str) -> Call:
    base, target = urlsplit(api_url.rstrip("/")), urlsplit(location)
    elsewhere = target.netloc and (target.scheme, target.netloc) != (base.scheme, base.netloc)
    if elsewhere or not target.path.startswith(f"{base.path}/"):
        raise Refused(301, f"{call}: GitHub redirects to another address")
    return Call(call.verb, target.path.removeprefix(base.path), dict(parse_qsl(target.query)) or call.query)
