"""One request to the REST API on its way to its handler: the table of routes, and what a handler gets and gives.

A handler takes a `Call` and returns JSON, or an `Answer` where the status is not 200; it raises `Refused`. Who asks and
what they may is settled before it runs, from what its route says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.github_double import auth
from tests.github_double.auth import Caller
from tests.github_double.issue import Issue
from tests.github_double.people import User
from tests.github_double.pull import Pull
from tests.github_double.records import Comment
from tests.github_double.refusal import Refused, not_found
from tests.github_double.repository import Repository
from tests.github_double.world import World

Json = dict[str, Any]
REPOSITORY = "/repos/{owner}/{repo}"


@dataclass(frozen=True)
class Answer:
    """What goes back: `payload` None is an empty body."""

    status: int
    payload: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """What a handler gets: the path's parts as text, the query, the body as JSON (an empty object where none came)."""

    world: World
    caller: Caller
    path: str
    parts: dict[str, str]
    query: dict[str, str]
    body: Json
    known_repository: Repository | None = None

    @property
    def repository(self) -> Repository:
        """The repository of the path, which the caller may see."""
        if self.known_repository is None:
            raise not_found()
        return self.known_repository

    @property
    def user(self) -> User:
        """The user in whose name the call acts."""
        return self.caller.acting()

    def number(self, name: str) -> int:
        """Return a number of the path."""
        try:
            return int(self.parts[name])
        except ValueError:
            raise not_found() from None

    def text(self, name: str, *, required: bool = False) -> str | None:
        """Return a text of the body."""
        value = self.body.get(name)
        if value is None and required:
            raise Refused(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')
        if value is not None and not isinstance(value, str):
            raise Refused(422, f"Invalid request.\n\nFor 'properties/{name}', {value!r} is not a string.")
        return value

    def needed(self, name: str) -> str:
        """Return a text of the body that must be there."""
        return self.text(name, required=True) or ""

    def issue(self) -> Issue:
        """Return the issue or pull request of the path."""
        number = self.number("issue_number")
        found = self.repository.numbered.get(number)
        if found is None:
            raise _lost(self.world, self.repository.lost[number]) if number in self.repository.lost else not_found()
        return found

    def pull(self) -> Pull:
        """Return the pull request of the path."""
        found = self.repository.numbered.get(self.number("pull_number"))
        if not isinstance(found, Pull):
            raise not_found()
        return found

    def comment(self) -> Comment:
        """Return the comment of the path."""
        wanted = self.number("comment_id")
        for issue in self.repository.numbered.values():
            for comment in issue.comments:
                if comment.id == wanted:
                    return comment
        raise not_found()

    def commit(self, name: str, revision: str | None = None) -> str:
        """Return the SHA of the branch, tag or commit in a part of the path."""
        wanted = self.parts[name] if revision is None else revision
        found = self.repository.git.resolve(wanted)
        if found is None:
            raise Refused(422, f"No commit found for SHA: {wanted}")
        return found

    def page(self, rows: list[Any], wrap: Callable[[list[Any]], Any] = list) -> Answer:
        """Return one page of a list, with the Link header that leads to the others."""
        size = min(max(_whole(self.query.get("per_page"), 30), 1), 100)
        page = max(_whole(self.query.get("page"), 1), 1)
        last = max(-(-len(rows) // size), 1)
        places = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        if page == 1:
            places = {name: at for name, at in places.items() if name in ("next", "last")}
        if page >= last:
            places = {name: at for name, at in places.items() if name in ("prev", "first")}
        path = self.path
        if self.known_repository is not None and path.startswith("/repos/"):
            # GitHub's links name the repository by its id.
            path = f"/repositories/{self.known_repository.id}/" + "/".join(path.split("/")[4:])
        links = [
            f'<{self.world.api_url}{path}?{urlencode(self.query | {"page": at, "per_page": size})}>; rel="{name}"'
            for name, at in places.items()
        ]
        return Answer(200, wrap(rows[(page - 1) * size : page * size]), {"Link": ", ".join(links)} if links else {})


@dataclass(frozen=True)
class Route:
    """One endpoint: GitHub's own template of its path, who may call it (`kinds`) with which permission (one of)."""

    method: str
    template: str
    handler: Callable[[Call], Any]
    needs: tuple[str, ...]
    kinds: tuple[str, ...]


ROUTES: list[Route] = []


def route(
    method: str, template: str, *needs: str, kinds: tuple[str, ...] = ()
) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Register a handler; a repository's endpoint is served under its name and under its id."""

    def register(handler: Callable[[Call], Any]) -> Callable[[Call], Any]:
        ROUTES.append(Route(method, template, handler, needs, kinds))
        return handler

    return register


def perform(
    world: World, to: Route, caller: Caller, path: str, parts: dict[str, str], query: dict[str, str], body: Json
) -> Answer:
    """Check what the route asks for, run its handler, return its answer."""
    if to.kinds and caller.kind not in to.kinds:
        if to.kinds == ("app",):
            raise Refused(401, "A JSON web token could not be decoded")
        raise Refused(401, "Requires authentication") if caller.kind == "none" else _wrong_kind()
    repository = None
    if to.template.startswith(REPOSITORY):
        repository, moved = _find(world, parts)
        if repository is None:
            raise not_found()
        if not to.kinds:
            auth.require(caller, repository, to.needs)
        if moved:
            return _redirect(world, repository, path, query)
    done = to.handler(Call(world, caller, path, parts, query, body, repository))
    return done if isinstance(done, Answer) else Answer(200, done)


def _lost(world: World, where: Issue | None) -> Refused:
    if where is None:
        return Refused(410, "This issue was deleted")
    target = f"{world.api_url}/repositories/{where.repository.id}/issues/{where.number}"
    return Refused(301, "Moved Permanently", headers={"Location": target})


def _wrong_kind() -> Refused:
    return Refused(403, "Resource not accessible by integration")


def _find(world: World, parts: dict[str, str]) -> tuple[Repository | None, bool]:
    if "repository_id" in parts:
        wanted = parts["repository_id"]
        return (world.repositories.get(int(wanted)) if wanted.isdigit() else None), False
    name = f"{parts['owner']}/{parts['repo']}"
    found = world.find_repository(name)
    if found is not None:
        return found, False
    return world.repositories.get(world.moved.get(name.lower(), 0)), True


def _redirect(world: World, repository: Repository, path: str, query: dict[str, str]) -> Answer:
    rest = "/".join(path.split("/")[4:])
    target = f"{world.api_url}/repositories/{repository.id}" + (f"/{rest}" if rest else "")
    if query:
        target += f"?{urlencode(query)}"
    body = {"message": "Moved Permanently", "url": target, "documentation_url": "https://docs.github.com/rest"}
    return Answer(301, body, {"Location": target})


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdigit() else otherwise
