"""What goes wrong on purpose: planned answers, delays and dropped connections, an outage, rate limits.

The gate asks here once a request, before anything else is done with it.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tests.github_double.refusal import Refused

if TYPE_CHECKING:
    from tests.github_double.world import World

_SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to "
    "GitHub Support for help, please include the request ID"
)
_SECONDARY_DOCS = (
    "https://docs.github.com/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api"
    "#about-secondary-rate-limits"
)
_PRIMARY_DOCS = (
    "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#primary-rate-limit-for-authenticated-users"
)
_HOUR = timedelta(hours=1)


@dataclass(eq=False)
class Plan:
    """One planned fault; `hits` counts how often it struck. See `GitHubDouble.plan`."""

    method: str | None
    path: str
    times: int | None
    status: int | None
    body: Any
    headers: dict[str, str]
    delay: float
    drop: str | None
    contains: str | None
    skip: int
    hits: int = 0

    def fits(self, method: str, paths: tuple[str, ...], body: bytes) -> bool:
        """Tell whether a request is meant, whatever has struck before."""
        return (
            (self.times is None or self.hits < self.times)
            and self.method in (None, method)
            and any(fnmatchcase(path, self.path) for path in paths)
            and (self.contains is None or self.contains.encode() in body)
        )


@dataclass
class Limit:
    """The hourly budget of requests; at 0 every request is refused until `resets_at`."""

    limit: int = 5_000
    remaining: int = 5_000
    resets_at: datetime | None = None


@dataclass
class Secondary:
    """A secondary limit that holds until a moment or for so many requests."""

    until: datetime
    retry_after: int | None
    status: int
    times: int | None
    writes_only: bool


@dataclass
class Faults:
    """All that is planned for one double; it has a lock of its own, so that asking never waits for git."""

    world: "World"
    lock: threading.RLock = field(default_factory=threading.RLock)
    plans: list[Plan] = field(default_factory=list)
    outage: int | None = None
    refusing: bool = False
    primary: Limit = field(default_factory=Limit)
    secondary: Secondary | None = None
    writes_a_minute: int | None = None
    _writes: deque[datetime] = field(default_factory=deque)

    def take(self, method: str, paths: tuple[str, ...], body: bytes) -> Plan | None:
        """Return the first plan that is meant for a request, and count it."""
        with self.lock:
            for plan in self.plans:
                if plan.fits(method, paths, body):
                    if plan.skip > 0:
                        plan.skip -= 1
                        continue
                    plan.hits += 1
                    return plan
        return None

    def count(self, method: str, who: str) -> None:
        """Count a request to the API; raise GitHub's 403 or 429 where a limit is reached."""
        with self.lock:
            now, writes = self.world.now(), method != "GET"
            self._refill(now)
            if self.primary.remaining <= 0:
                words = (
                    f"API rate limit exceeded for {who}. If you reach out to GitHub Support for help, please include "
                    f"the request ID and timestamp {now:%Y-%m-%d %H:%M:%S} UTC."
                )
                raise Refused(403, words, documentation_url=_PRIMARY_DOCS)
            self.primary.remaining -= 1
            self._check_secondary(now, writes)
            if writes and self.writes_a_minute is not None:
                while self._writes and self._writes[0] <= now - timedelta(minutes=1):
                    self._writes.popleft()
                if len(self._writes) >= self.writes_a_minute:
                    wait = int((self._writes[0] + timedelta(minutes=1) - now).total_seconds())
                    raise secondary_refusal(403, max(wait, 1))
                self._writes.append(now)

    def headers(self, resource: str) -> dict[str, str]:
        """Return the rate-limit headers that stand on every answer."""
        with self.lock:
            now = self.world.now()
            self._refill(now)
            reset = self.primary.resets_at or now + _HOUR
            return {
                "X-RateLimit-Limit": str(self.primary.limit),
                "X-RateLimit-Remaining": str(max(self.primary.remaining, 0)),
                "X-RateLimit-Reset": str(int(reset.timestamp())),
                "X-RateLimit-Used": str(self.primary.limit - max(self.primary.remaining, 0)),
                "X-RateLimit-Resource": resource,
            }

    def _refill(self, now: datetime) -> None:
        if self.primary.resets_at is None:
            self.primary.resets_at = now + _HOUR
        elif now >= self.primary.resets_at:
            self.primary = Limit(self.primary.limit, self.primary.limit, now + _HOUR)

    def _check_secondary(self, now: datetime, writes: bool) -> None:
        limit = self.secondary
        if limit is None:
            return
        if now >= limit.until or limit.times == 0:
            self.secondary = None
            return
        if writes or not limit.writes_only:
            if limit.times is not None:
                limit.times -= 1
            raise secondary_refusal(limit.status, limit.retry_after)


def secondary_refusal(status: int, retry_after: int | None) -> Refused:
    """Return GitHub's answer to too many requests in a short time."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Refused(status, _SECONDARY, headers=headers, documentation_url=_SECONDARY_DOCS)
