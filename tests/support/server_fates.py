"""At which failure point each of a scenario's servers dies, one after the other, and what a write to GitHub is."""

import json
import re
from dataclasses import dataclass, field
from typing import Protocol

from tests.github_double import Request

KINDS = {
    "reaction",
    "comment create",
    "comment edit",
    "pull create",
    "pull update",
    "ready",
    "check create",
    "check update",
    "minimise",
}


def kind(request: Request) -> str:
    """Return what sort of thing a write brings about."""
    path, make = request.path, request.method == "POST"
    if path == "/graphql":
        query = request.body["query"]
        return next(what for name, what in _MUTATIONS.items() if name in query)
    if path.endswith("/reactions"):
        return "reaction"
    if "/check-runs" in path:
        return "check create" if make else "check update"
    if "/comments" in path:
        return "comment create" if make else "comment edit"
    assert re.search(r"/pulls(/\d+)?$", path), path
    return "pull create" if make else "pull update"


def said(request: Request) -> tuple[str, str, str]:
    """Return what a write says; one that is repeated says the same."""
    return request.method, request.path, json.dumps(request.body)


_MUTATIONS = {"addReaction": "reaction", "markPullRequestReadyForReview": "ready", "minimizeComment": "minimise"}


class Fate(Protocol):
    """Says at which point the next server dies; it hears what the last one did at the end, if it did anything."""

    def __call__(self, last: Request | None) -> str:
        """Return a failure point and its number, or nothing for a server that lives."""


@dataclass
class AtEveryWrite:
    """Death at the first write that is new; `hit` counts the writes at which a server has died.

    What is no creation leaves no trace but on GitHub, so the next server repeats it and passes the point once more.
    Where it died at a write at which one had died before, the next passes one more than it.
    """

    point: str
    first: int
    hit: list[Request] = field(default_factory=list)
    _seen: set[tuple[str, str, str]] = field(default_factory=set)
    _number: int = 0

    def __call__(self, last: Request | None) -> str:
        if last is not None and said(last) in self._seen:
            self._number += 1
        else:
            repeated = last is not None and self.point.endswith("after") and not kind(last).endswith("create")
            self._number = self.first + repeated
        if last is not None:
            self.hit.append(last)
            self._seen.add(said(last))
        return f"{self.point}#{self._number}"


@dataclass
class Further:
    """Death at a point whose number grows by `step` from one server to the next."""

    point: str
    step: int
    deaths: int = 0

    def __call__(self, last: Request | None) -> str:
        del last
        self.deaths += 1
        return f"{self.point}#{self.deaths * self.step}"


@dataclass
class Once:
    """Death at one point; every later server lives."""

    point: str
    servers: int = 0

    def __call__(self, last: Request | None) -> str:
        del last
        self.servers += 1
        return self.point if self.servers == 1 else ""
