"""Who acts on the double: users, the App and its bot, installations, the tokens they hold."""

import base64
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ROLES = ("none", "read", "triage", "write", "maintain", "admin")
LEGACY = {"triage": "read", "maintain": "write"}
TOKEN_LIFE = timedelta(hours=1)
PERMISSIONS = {
    "metadata": "read",
    "contents": "write",
    "issues": "write",
    "pull_requests": "write",
    "checks": "write",
    "statuses": "write",
}
# What a workflow can be started for, of all that the double tells of.
WORKFLOW_EVENTS = frozenset(
    {
        "check_run",
        "create",
        "delete",
        "issue_comment",
        "issues",
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "push",
        "status",
    }
)
ACTIONS_APP, ACTIONS_BOT = 15_368, 41_898_282  # GitHub's own numbers
EVENTS = [
    "create",
    "delete",
    "issue_comment",
    "issues",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "push",
    "repository",
]


def node_id(prefix: str, number: int) -> str:
    """Return a global id in the style of GitHub's, unlike the database id and the same for the same object."""
    return f"{prefix}_kwDO{base64.urlsafe_b64encode(number.to_bytes(6, 'big')).decode()}"


@dataclass(eq=False, repr=False)
class User:
    """A person, or the App's bot (`type` is `Bot`)."""

    id: int
    login: str
    type: str = "User"

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("BOT" if self.type == "Bot" else "U", self.id)

    def __repr__(self) -> str:
        return f"<User {self.login}>"


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(eq=False)
class App:
    """The GitHub App: what it may ask for at most and which events it has subscribed to; both may be changed."""

    id: int
    owner: User
    bot: User
    webhook_secret: str
    created_at: datetime
    slug: str = "devflow"
    name: str = "Devflow"
    hook_id: int = 480_000_001
    permissions: dict[str, str] = field(default_factory=lambda: dict(PERMISSIONS))
    events: list[str] = field(default_factory=lambda: list(EVENTS))

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("A", self.id)

    @property
    def private_key_pem(self) -> str:
        """The private key that the App signs its tokens with; one for all doubles of a process."""
        return (
            _key()
            .private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
            .decode()
        )

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        """The key that its tokens are checked with."""
        return _key().public_key()


@dataclass(eq=False)
class Installation:
    """The App on one account, with the repositories that it was given there."""

    id: int
    account: User
    created_at: datetime
    repository_ids: set[int] = field(default_factory=set)
    suspended_at: datetime | None = None
    suspended_by: User | None = None
    deleted: bool = False

    @property
    def node_id(self) -> str:
        """The global id."""
        return base64.b64encode(f"23:IntegrationInstallation{self.id}".encode()).decode()


@dataclass(eq=False, repr=False)
class Token:
    """A token of an installation or of a workflow's job (`ghs_`, an hour long), or of a person (`github_pat_`).

    `permissions` of a person's: empty where the token may do all that the person may.
    """

    text: str
    user: User
    installation: Installation | None = None
    of_workflow: bool = False
    permissions: dict[str, str] = field(default_factory=dict)
    repository_ids: frozenset[int] | None = None
    expires_at: datetime | None = None
    revoked: bool = False


def new_token(prefix: str) -> str:
    """Return a fresh token text."""
    return prefix + secrets.token_hex(18)
