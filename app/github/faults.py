"""What can go wrong with a call to GitHub, as four kinds that say what a caller can do; nothing else comes out.

Every exception of the HTTP layer is translated here, with a message that holds no header and no body but GitHub's own
sentence. Callers re-queue on `RetryLater`, give up the object on `Gone` and tell somebody on `Refused`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from github import GithubException

from app.github.reading import Unreadable

_SECONDARY_WAIT = timedelta(seconds=60)  # GitHub: "wait for at least one minute"
_LONGEST_WAIT = timedelta(days=1)  # a header that asks for more is broken
_MESSAGE_LIMIT = 500
_TOKEN = re.compile(r"\b(gh[a-z]_\w{8,}|github_pat_\w{8,}|v\d\.[0-9a-f]{20,}|eyJ[\w-]+\.[\w-]+\.[\w-]+)")
_NEEDED = "x-accepted-github-permissions"
_SUSPENDED = "installation has been suspended"
_WORDS_OF_A_LIMIT = ("rate limit", "abuse detection")


class HostFault(Exception):  # noqa: N818 - the four kinds are named by what they mean
    """A call to GitHub did not do what it was asked for."""


class RetryLater(HostFault):
    """Nothing is wrong with the call; it may pass later.

    `at` is the time that GitHub named for a rate limit (aware, UTC), None where the caller chooses its own back-off.
    A call that writes may have been carried out all the same.
    """

    def __init__(self, reason: str, at: datetime | None = None) -> None:
        self.at = at
        self.reason = reason
        super().__init__(f"{reason}{f', not before {at:%Y-%m-%d %H:%M:%S} UTC' if at else ''}")


class Unauthorised(RetryLater):
    """GitHub does not take our credential (401), not even a new one."""


class Gone(HostFault):
    """What was asked for does not exist, or not for us (404, 410, 451, an installation that is suspended)."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


class Refused(HostFault):
    """GitHub understood the call and does not do it (403, 409, 422, ...); `errors` are its own, as short sentences.

    `what` names the call, `needed` the permissions that it takes, where GitHub says so (`issues=write; ...`).
    """

    def __init__(
        self, status: int, message: str, errors: tuple[str, ...] = (), *, what: str = "", needed: str = ""
    ) -> None:
        self.status = status
        self.message = message
        self.errors = errors
        self.what = what
        self.needed = needed
        super().__init__(f"{status}: {'; '.join((message, *errors))}")


class NoFile(Refused):
    """What lies at a path is a folder, or a file of more than 1 MB, and will be the next time as well."""

    def __init__(self, message: str) -> None:
        super().__init__(422, message)


class Moved(Exception):  # noqa: N818 - no fault yet: the repository may only have another name
    """GitHub answered with a redirect; the client finds out the new name or follows it, it never gets further."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__("GitHub answered with a redirect")


@dataclass(frozen=True)
class Answer:
    """The part of a refused answer that decides: status, headers in lower case, GitHub's message and errors."""

    status: int
    headers: Mapping[str, str]
    message: str = ""
    errors: tuple[str, ...] = field(default=())


def translate(raised: Exception, now: datetime, what: str) -> HostFault:
    """Return the fault that stands for an exception of PyGithub, of requests or of reading an answer.

    `what` names the call for people, such as `GET issues/5`; `now` is the time that waits are counted from.
    """
    if isinstance(raised, HostFault):
        return raised
    if isinstance(raised, GithubException):
        return fault_of(_answer(raised), now, what)
    if isinstance(raised, requests.Timeout):
        return RetryLater(f"{what}: GitHub did not answer in time")
    if isinstance(raised, requests.RequestException):
        return RetryLater(f"{what}: GitHub cannot be reached ({type(raised).__name__})")
    if isinstance(raised, Unreadable):
        return RetryLater(f"{what}: GitHub's answer is not as documented: {raised.reason}")
    # what PyGithub raises where an answer is not what it expects: broken JSON, a list for an object
    return RetryLater(f"{what}: GitHub's answer cannot be read ({type(raised).__name__})")


def fault_of(answer: Answer, now: datetime, what: str) -> HostFault:
    """Return the fault that an answer other than 2xx stands for."""
    status = answer.status
    if status == 429 or (status == 403 and _is_limit(answer)):
        return RetryLater(f"{what}: GitHub's rate limit is reached", _when(answer, now))
    if status == 401:
        return Unauthorised(f"{what}: GitHub does not take our credential")
    if status in (404, 410, 451) or (status == 403 and _SUSPENDED in answer.message):
        return Gone(f"{what}: {answer.message or 'not found'} ({status})")
    if status >= 500 or status in (202, 408):
        asked = answer.headers.get("retry-after", "")
        return RetryLater(f"{what}: GitHub answered {status}", _when(answer, now) if _is_count(asked) else None)
    said = answer.message or f"{what}: GitHub answered {status}"
    return Refused(status, said, answer.errors, what=what, needed=answer.headers.get(_NEEDED, ""))


def graphql_fault(errors: list[Any], now: datetime, what: str, headers: Mapping[str, str]) -> HostFault:
    """Return the fault that the errors of a GraphQL answer stand for (its status is 200 all the same)."""
    found = [error for error in errors if isinstance(error, dict)]
    kinds = {error.get("type") for error in found if isinstance(error.get("type"), str)}
    said = tuple(_sentence(error.get("message")) for error in found)
    message = next(filter(None, said), "no reason given")
    if "RATE_LIMITED" in kinds or "RATE_LIMIT" in kinds:
        return fault_of(Answer(429, headers, message), now, what)
    if "NOT_FOUND" in kinds:
        return Gone(f"{what}: {message}")
    if kinds & {"FORBIDDEN", "INSUFFICIENT_SCOPES"}:
        return Refused(403, message, said[1:], what=what)
    if not kinds:
        return RetryLater(f"{what}: GitHub's GraphQL answered: {message}")
    return Refused(422, message, said[1:])


def _answer(raised: GithubException) -> Answer:
    data = raised.data if isinstance(raised.data, dict) else {}
    errors = data.get("errors")
    sentences = [_sentence(error) for error in (errors if isinstance(errors, list) else [errors])[:10]]
    return Answer(
        raised.status,
        {str(name).lower(): str(value) for name, value in (raised.headers or {}).items()},
        _sentence(data.get("message")),
        tuple(filter(None, sentences)),
    )


def _sentence(said: Any) -> str:
    """Return what GitHub said as one line; an error object becomes `resource.field: message`."""
    if isinstance(said, dict):
        place = ".".join(str(said[name]) for name in ("resource", "field") if isinstance(said.get(name), str))
        said = ": ".join(filter(None, (place, str(said.get("message") or said.get("code") or ""))))
    if not isinstance(said, str):
        return ""
    return _TOKEN.sub("***", " ".join(said.split()))[:_MESSAGE_LIMIT]


def _is_limit(answer: Answer) -> bool:
    if "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining") == "0":
        return True
    return any(words in answer.message.lower() for words in _WORDS_OF_A_LIMIT)


def _when(answer: Answer, now: datetime) -> datetime:
    """Return when the limit is over: by `retry-after`, else by the reset of an empty allowance, else in a minute."""
    after = answer.headers.get("retry-after", "")
    if _is_count(after):
        wait = timedelta(seconds=int(after))
    elif answer.headers.get("x-ratelimit-remaining") == "0" and _is_count(answer.headers.get("x-ratelimit-reset", "")):
        # one second more, because the reset is cut to whole seconds
        wait = datetime.fromtimestamp(int(answer.headers["x-ratelimit-reset"]) + 1, UTC) - now
    else:
        wait = _SECONDARY_WAIT
    return now + min(max(wait, timedelta(seconds=1)), _LONGEST_WAIT)


def _is_count(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= 10
