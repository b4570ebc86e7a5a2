"""GitHub as tests and the demo hold it in their hands: start it, make people and repositories, plan what goes wrong."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.github_double import webhooks
from tests.github_double.faults import Faults, Limit, Plan, Secondary
from tests.github_double.gate import Request
from tests.github_double.outbox import Delivery
from tests.github_double.people import App, Token, User
from tests.github_double.repository import Repository
from tests.github_double.server import Server
from tests.github_double.world import World, utc_now

_WORKFLOW_PERMISSIONS = ("checks", "contents", "issues", "pull-requests", "statuses")


class GitHubDouble:
    """A GitHub on loopback with REST, GraphQL, git and webhooks; use it as a context manager or `start` and `stop`.

    `folder` takes the git repositories, `clock` gives an aware UTC time, `webhook_url` is where deliveries go (None:
    they are kept in `deliveries`, unsent). Ids begin behind `ids_after`: two doubles that one database gets to know
    must not share them. `at_end` is called with each double that a `with` block leaves in peace; tests have it checked
    against GitHub's schemas there.
    """

    at_end: ClassVar[Callable[["GitHubDouble"], None] | None] = None

    def __init__(
        self,
        folder: Path | str,
        webhook_url: str | None = None,
        webhook_secret: str = "a secret of the webhook",
        clock: Callable[[], datetime] = utc_now,
        ids_after: int = 0,
    ) -> None:
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        self.world = World(root.resolve(), clock, webhook_secret, ids_after)
        self.world.outbox.webhook_url = webhook_url
        self.faults = Faults(self.world)
        self._server = Server(self.world, self.faults)
        self.world.server_url = f"http://127.0.0.1:{self._server.port}"
        self._life = threading.Lock()
        self._state = "new"

    def start(self) -> Self:
        """Serve from now on."""
        self._server.start()
        self.world.outbox.start()
        self._state = "running"
        return self

    def stop(self) -> None:
        """End server and sender; what is on its way is cut off. A second call does nothing."""
        with self._life:
            if self._state == "running":
                self.world.outbox.stop()
            if self._state != "stopped":
                self._server.stop()
            self._state = "stopped"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None and GitHubDouble.at_end is not None:
            GitHubDouble.at_end(self)

    # Where it is and who is there

    @property
    def server_url(self) -> str:
        """Where git and people go: `http://127.0.0.1:PORT`."""
        return self.world.server_url

    @property
    def api_url(self) -> str:
        """The root of the REST API, PyGithub's `base_url`."""
        return self.world.api_url

    @property
    def graphql_url(self) -> str:
        """Where GraphQL is served."""
        return f"{self.world.server_url}/api/graphql"

    @property
    def app(self) -> App:
        """The App."""
        return self.world.app

    @property
    def webhook_url(self) -> str | None:
        """Where deliveries go; may be set at any time."""
        return self.world.outbox.webhook_url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self.world.outbox.webhook_url = url

    def person(self, login: str) -> User:
        """Return the user of that login, who is made at the first call."""
        return self.world.person(login)

    def rename_person(self, who: User, login: str) -> None:
        """Give a person another login; the old one is nobody's, until somebody takes it."""
        with self.world.lock:
            del self.world.users[who.login.lower()]
            who.login = login
            self.world.users[login.lower()] = who

    def pat(self, who: User) -> str:
        """Return a new personal access token of a person."""
        with self.world.lock:
            return self.world.issue_token("github_pat_", who).text

    def token(self, repository: Repository, **permissions: str) -> Token:
        """Return a new installation token for one repository; all of the App's permissions unless some are named."""
        with self.world.lock:
            return self.world.issue_token(
                "ghs_",
                self.app.bot,
                installation=repository.installation,
                permissions={"metadata": "read"} | (permissions or self.app.permissions),
                repository_ids=frozenset({repository.id}),
                expires_at=self.world.now() + timedelta(hours=1),
            )

    def actions_token(self, repository: Repository, permissions: Mapping[str, str] | None = None) -> Token:
        """Return a new GITHUB_TOKEN: what a job in a workflow of the repository gets.

        `permissions` are written as in a workflow (`pull-requests: write`), where what is not named is not given; None:
        all of them.
        """
        given = dict.fromkeys(_WORKFLOW_PERMISSIONS, "write") if permissions is None else permissions
        with self.world.lock:
            return self.world.issue_token(
                "ghs_",
                self.world.actions.bot,
                of_workflow=True,
                permissions={"metadata": "read"} | {name.replace("-", "_"): level for name, level in given.items()},
                repository_ids=frozenset({repository.id}),
                expires_at=self.world.now() + timedelta(hours=1),
            )

    def personal_token(
        self, who: User, *repositories: Repository, permissions: Mapping[str, str] | None = None
    ) -> Token:
        """Return a new token of a person, for some repositories and permissions only where they are named."""
        chosen = frozenset(each.id for each in repositories) if repositories else None
        with self.world.lock:
            return self.world.issue_token(
                "github_pat_",
                who,
                permissions={"metadata": "read", **permissions} if permissions else {},
                repository_ids=chosen,
            )

    def revoke_tokens(self) -> None:
        """Make every token invalid, as if they had been leaked and revoked."""
        with self.world.lock:
            for token in self.world.tokens.values():
                token.revoked = True

    def repository(
        self,
        full_name: str,
        files: Mapping[str, str | bytes] | None = None,
        *,
        private: bool = False,
        drafts: bool = True,
        default_branch: str = "main",
        install: bool = True,
    ) -> Repository:
        """Make a repository with one commit of these files and install the App on it."""
        login, _, name = full_name.partition("/")
        with self.world.lock:
            owner = self.world.person(login)
            made = Repository(self.world, owner, name, private=private, drafts=drafts, default_branch=default_branch)
            made.commit(default_branch, files or {"README.md": f"# {name}\n"}, owner, "Begin")
            if install:
                self.install(made)
            return made

    def install(self, repository: Repository) -> None:
        """Install the App on a repository of an account, or add it to the account's installation."""
        with self.world.lock:
            installation = self.world.installation_of(repository.owner)
            first = not installation.repository_ids
            installation.repository_ids.add(repository.id)
            action = "created" if first else "added"
            webhooks.on_installation(self.world, installation, action, repository.owner, [repository])

    def uninstall(self, repository: Repository) -> None:
        """Take a repository from the installation; the last one ends the installation and its tokens."""
        with self.world.lock:
            installation = repository.installation
            if installation is None:
                return
            if installation.repository_ids == {repository.id}:
                webhooks.on_installation(self.world, installation, "deleted", repository.owner, [repository])
                installation.deleted = True
            else:
                webhooks.on_installation(self.world, installation, "removed", repository.owner, [repository])
            installation.repository_ids.discard(repository.id)

    def suspend(self, repository: Repository) -> None:
        """Suspend the installation that has a repository: no tokens, no webhooks."""
        self._suspend(repository, self.world.now(), "suspend")

    def unsuspend(self, repository: Repository) -> None:
        """End the suspension."""
        self._suspend(repository, None, "unsuspend")

    def _suspend(self, repository: Repository, at: datetime | None, action: str) -> None:
        with self.world.lock:
            installation = repository.installation
            assert installation is not None
            installation.suspended_at = at
            installation.suspended_by = repository.owner if at else None
            webhooks.on_installation(self.world, installation, action, repository.owner, [repository])

    # Workflows and webhooks

    @property
    def on_workflow_event(self) -> Callable[[str, dict[str, Any]], None] | None:
        """Who is told of what starts workflows, at once and with the state locked: name and payload of the event.

        Never of what was done by a GITHUB_TOKEN.
        """
        return self.world.on_workflow_event

    @on_workflow_event.setter
    def on_workflow_event(self, told: Callable[[str, dict[str, Any]], None] | None) -> None:
        self.world.on_workflow_event = told

    @property
    def deliveries(self) -> list[Delivery]:
        """Every delivery so far, oldest first, sent or not."""
        return self.world.outbox.deliveries

    @property
    def held(self) -> list[Delivery]:
        """What `hold` keeps back now."""
        return self.world.outbox.held

    def hold(self) -> None:
        """Keep deliveries back from now on."""
        self.world.outbox.hold()

    def release(self, order: Sequence[int | Delivery] | None = None) -> list[Delivery]:
        """Send all that is held, or these (positions in `held` or deliveries) in this order; the rest stays held."""
        return self.world.outbox.release(order)

    def redeliver(self, delivery: Delivery, new_guid: bool = False) -> Delivery:
        """Send a delivery's bytes again, under its own GUID or a new one."""
        return self.world.outbox.again(delivery, new_guid=new_guid)

    def send(
        self,
        event: str,
        payload: dict[str, Any],
        *,
        body: bytes | None = None,
        guid: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Delivery:
        """Send a webhook made by hand, signed; `body` replaces its bytes, `headers` go over the usual ones."""
        return self.world.outbox.add(
            event, payload, None, None, body=body, guid=guid, headers=headers, made_by_hand=True
        )

    def wait_deliveries(self, timeout: float = 20.0) -> None:
        """Return when everything that was queued has been answered; raises TimeoutError."""
        self.world.outbox.wait(timeout)

    # What was asked, and what goes wrong

    @property
    def requests(self) -> list[Request]:
        """Every request so far, git's among them."""
        return self._server.gate.requests

    def calls(self, method: str | None = None, path_contains: str | None = None) -> list[Request]:
        """Return the requests of a method whose path has this part."""
        return [
            each
            for each in list(self.requests)
            if method in (None, each.method) and (path_contains is None or path_contains in each.path)
        ]

    def plan(
        self,
        method: str | None = None,
        path: str = "*",
        *,
        times: int | None = 1,
        status: int | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        delay: float = 0.0,
        drop: str | None = None,
        contains: str | None = None,
        skip: int = 0,
    ) -> Plan:
        """Plan a fault for the next `times` requests (None: all) of a method and a path below the API's root.

        `path` is an fnmatch pattern, tried on the repository's path by name and by id; git's is like
        `/octo/x.git/git-receive-pack`, GraphQL's `/graphql`. `contains` must stand in the body, `skip` requests go
        through first. `status` answers with it (and `body`, JSON or text) instead of doing it; `delay` waits so many
        seconds first; `drop` closes the connection "before" it is done or "after".
        """
        if drop not in (None, "before", "after"):
            raise ValueError(f"drop is before or after, not {drop}")
        made = Plan(method, path, times, status, body, headers or {}, delay, drop, contains, skip)
        with self.faults.lock:
            self.faults.plans.append(made)
        return made

    def clear_plans(self) -> None:
        """Forget every planned fault."""
        with self.faults.lock:
            self.faults.plans.clear()

    def down(self, status: int = 502, *, refuse: bool = False) -> None:
        """Answer everything with this status, or close every connection at once, until `up`."""
        self.faults.outage, self.faults.refusing = status, refuse

    def up(self) -> None:
        """End an outage."""
        self.faults.outage, self.faults.refusing = None, False

    def limit(self, remaining: int = 0, *, reset_in: int = 3600, limit: int | None = None) -> None:
        """Leave so many requests until the clock has gone on by `reset_in` seconds; then the whole limit again."""
        with self.faults.lock:
            most = self.faults.primary.limit if limit is None else limit
            self.faults.primary = Limit(most, remaining, self.world.now() + timedelta(seconds=reset_in))

    def limit_secondary(
        self,
        retry_after: int | None = 60,
        *,
        lasts: int | None = None,
        status: int = 403,
        times: int | None = None,
        writes_only: bool = True,
    ) -> None:
        """Refuse writes (or all) with the secondary limit for `lasts` seconds (`retry_after`, else 60) or `times`."""
        with self.faults.lock:
            until = self.world.now() + timedelta(seconds=lasts or retry_after or 60)
            self.faults.secondary = Secondary(until, retry_after, status, times, writes_only)

    def limit_writes(self, a_minute: int | None) -> None:
        """Refuse what goes beyond so many writes a minute of the clock, as GitHub limits content; None: no limit."""
        self.faults.writes_a_minute = a_minute
