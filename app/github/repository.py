"""One repository at GitHub, as something to ask: its name, its installation's token, and the way of every call to it.

The clients for issues, pull requests and checks stand on this class. A repository is its number; where it was renamed,
GitHub redirects, the new name is learnt and written down, and the call is made again under it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from github import Auth

from app.github.answers import facts_of
from app.github.auth import Purpose, TokenSource
from app.github.calls import Caller
from app.github.faults import Gone, Moved, Refused
from app.github.reading import Fields, as_object
from app.github.refusals import Refusals
from app.github.shapes import Person, RepositoryFacts
from app.github.transport import Call

T = TypeVar("T")


@dataclass(frozen=True)
class InstallationAccess:
    """Access by an installation's token for one repository and one purpose."""

    tokens: TokenSource
    installation_id: int
    repository_id: int
    purpose: Purpose = "api"

    @property
    def allowance(self) -> str:
        """GitHub counts by installation."""
        return f"installation {self.installation_id}"

    async def credential(self) -> Auth.Auth:
        """Return a token that holds for some minutes yet."""
        return (await self.tokens.get(self.installation_id, self.repository_id, self.purpose)).auth

    def drop(self, credential: Auth.Auth) -> None:
        """Forget a token that was refused."""
        self.tokens.forget(self.installation_id, self.repository_id, self.purpose, credential)


@dataclass(frozen=True)
class Host:
    """What the repositories of one GitHub share: the caller, the addresses, and who we are there.

    `learn` is told what a repository is called now; `rights_are_fixed`: what our credential may do stays as
    it is for as long as the process lives; `is_ours` tells whether it was us who did something.
    """

    caller: Caller
    tokens: TokenSource
    api_url: str
    server_url: str
    app_id: int | None
    is_ours: Callable[[Person], Awaitable[bool]]
    learn: Callable[[int, RepositoryFacts], Awaitable[None]]
    refusals: Refusals
    rights_are_fixed: bool


class RepositoryCalls:
    """Calls to one repository; every method below raises a fault of `faults` and nothing else."""

    def __init__(
        self, host: Host, repository_id: int, installation_id: int, full_name: str, known_default_branch: str = ""
    ) -> None:
        self.repository_id = repository_id
        self.installation_id = installation_id
        self.full_name = full_name
        self.known_default_branch = known_default_branch
        self._host = host
        self._access = InstallationAccess(host.tokens, installation_id, repository_id)

    @property
    def owner(self) -> str:
        """Login of the owner."""
        return self.full_name.partition("/")[0]

    @property
    def refusals(self) -> Refusals:
        """What this process was refused for want of a right."""
        return self._host.refusals

    @property
    def rights_are_fixed(self) -> bool:
        """Whether it is no use to ask again in this process for what was refused for want of a right."""
        return self._host.rights_are_fixed

    async def is_ours(self, person: Person) -> bool:
        """Tell whether a person is who we are at GitHub; a person's own token makes what they do by hand ours too."""
        return await self._host.is_ours(person)

    async def facts(self) -> RepositoryFacts:
        """Ask what the repository is called now and which branch is its default one.

        Asked by its number, because its old name may be another repository's by now.
        """
        call = Call("GET", f"/repositories/{self.repository_id}")
        reply = await self._host.caller.follow(call, self._access, self._host.api_url)
        facts = self._host.caller.understand(call, _facts_of, reply.data)
        if facts.id != self.repository_id:
            raise Gone(f"{self.full_name} is another repository now")
        self.full_name, self.known_default_branch = facts.full_name, facts.default_branch
        await self._host.learn(self.installation_id, facts)
        return facts

    async def default_branch(self) -> str:
        """Ask for the default branch."""
        return (await self.facts()).default_branch

    async def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Fields:
        return self._read(as_object, await self._fetch(path, query))

    async def _fetch(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Return an answer's JSON, whatever it is."""
        call = Call("GET", path, query or {})
        reply = await self._renamed_or_not(lambda named: self._host.caller.read(named, self._access), call)
        return reply.data

    async def _write(self, verb: str, path: str, body: Any = None) -> Fields:
        call = Call(verb, path, body=body)
        reply = await self._renamed_or_not(lambda named: self._host.caller.write(named, self._access), call)
        return self._read(as_object, {} if reply.data is None else reply.data)

    async def _all(self, path: str, query: Mapping[str, Any] | None = None, inside: str = "") -> list[Fields]:
        """Return every item of a list, which some answers have in a field (`inside`)."""

        async def collect(call: Call) -> list[Fields]:
            return [item async for page in self._host.caller.pages(call, self._access, inside) for item in page]

        return await self._renamed_or_not(collect, Call("GET", path, query or {}))

    async def _mutate(self, name: str, values: Mapping[str, str], result: str) -> None:
        await self._host.caller.mutate(name, values, result, self._access)

    async def _query(self, name: str, text: str, variables: Mapping[str, Any]) -> Fields:
        return await self._host.caller.query(name, text, variables, self._access)

    async def _renamed_or_not(self, make: Callable[[Call], Awaitable[T]], call: Call) -> T:
        try:
            return await make(self._named(call))
        except Moved:
            await self.facts()
        try:
            return await make(self._named(call))
        except Moved:
            raise Refused(301, f"{call}: GitHub redirects although the name is the current one") from None

    def _named(self, call: Call) -> Call:
        return Call(call.verb, f"/repos/{quoted(self.full_name)}/{call.path}", call.query, call.body)

    def _read(self, read: Callable[[Any], T], answer: Any) -> T:
        """Return the shape that a reader makes of an answer."""
        return self._host.caller.understand(Call("GET", self.full_name), read, answer)

    def _read_all(self, read: Callable[[Fields], T], items: list[Fields]) -> list[T]:
        return [self._read(read, fields) for fields in items]


def _facts_of(data: Any) -> RepositoryFacts:
    return facts_of(as_object(data))


def quoted(text: str) -> str:
    """Return a text as one or several segments of a path."""
    return quote(text, safe="/")
