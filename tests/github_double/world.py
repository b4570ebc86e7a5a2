"""The state of the double that everything else hangs on: who and what there is, ids, the clock, the lock.

One re-entrant lock guards all of it; a person's action, a REST handler and what follows a push each hold it from
beginning to end, so webhooks leave in the order in which things happened.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.github_double.outbox import Outbox
from tests.github_double.people import ACTIONS_APP, ACTIONS_BOT, App, Installation, Token, User, new_token

if TYPE_CHECKING:
    from tests.github_double.repository import Repository

# Where each kind of id starts. Comments, reviews and check runs stand above 2**31, as on GitHub.
_FIRST = {
    "user": 1_001,
    "installation": 48_000_001,
    "repository": 700_000_001,
    "issue": 2_600_000_001,
    "pull": 2_100_000_001,
    "comment": 3_300_000_001,
    "review": 3_100_000_001,
    "review_comment": 2_200_000_001,
    "reaction": 290_000_001,
    "label": 7_600_000_001,
    "event": 15_000_000_001,
    "check": 33_000_000_001,
    "status": 31_000_000_001,
    "delivery": 90_000_000_001,
}


def utc_now() -> datetime:
    """Return the machine's time."""
    return datetime.now(UTC)


class World:
    """All state of one double."""

    def __init__(self, folder: Path, clock: Callable[[], datetime], webhook_secret: str, ids_after: int = 0) -> None:
        self.folder = folder
        self.clock = clock
        self.lock = threading.RLock()
        self.server_url = ""
        self.users: dict[str, User] = {}
        self.repositories: dict[int, Repository] = {}
        self.moved: dict[str, int] = {}
        self.installations: dict[int, Installation] = {}
        self.tokens: dict[str, Token] = {}
        self.nodes: dict[str, Any] = {}
        self._ids: dict[str, Iterator[int]] = {
            kind: itertools.count(first + ids_after) for kind, first in _FIRST.items()
        }
        owner = self.person("devflow-makers")
        bot = User(self.new_id("user"), "devflow[bot]", "Bot")
        self.users[bot.login] = bot
        self.app = App(1_200_345, owner, bot, webhook_secret, self.now())
        self.actions = self._actions()
        self.on_workflow_event: Callable[[str, dict[str, Any]], None] | None = None
        self.outbox = Outbox(self)

    def _actions(self) -> App:
        """Make GitHub Actions, an App of GitHub's own in whose name workflows act."""
        bot = User(ACTIONS_BOT, "github-actions[bot]", "Bot")
        self.users[bot.login] = bot
        owner = self.person("github")
        return App(ACTIONS_APP, owner, bot, "", self.now(), slug="github-actions", name="GitHub Actions")

    @property
    def api_url(self) -> str:
        """The root of the REST API, without a slash at its end."""
        return f"{self.server_url}/api/v3"

    def now(self) -> datetime:
        """Return the time to the second, as GitHub tells it."""
        return self.clock().astimezone(UTC).replace(microsecond=0)

    def new_id(self, kind: str) -> int:
        """Return the next id of a kind; they only grow."""
        return next(self._ids[kind])

    def person(self, login: str) -> User:
        """Return the user of that login, who is made at the first call."""
        with self.lock:
            if login.lower() not in self.users:
                self.users[login.lower()] = User(self.new_id("user"), login)
            return self.users[login.lower()]

    def find_repository(self, full_name: str) -> "Repository | None":
        """Return the repository that has this name now."""
        wanted = full_name.lower()
        # A copy, because the gate looks without holding the lock.
        return next((each for each in tuple(self.repositories.values()) if each.full_name.lower() == wanted), None)

    def installation_of(self, account: User) -> Installation:
        """Return the account's installation, made where there is none."""
        for known in self.installations.values():
            if known.account is account and not known.deleted:
                return known
        made = Installation(self.new_id("installation"), account, self.now())
        self.installations[made.id] = made
        return made

    def issue_token(self, prefix: str, user: User, **fields: Any) -> Token:
        """Make a token and remember it."""
        token = Token(new_token(prefix), user, **fields)
        self.tokens[token.text] = token
        return token


def stamp(moment: datetime | None) -> str | None:
    """Write a time as GitHub's JSON has it."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
