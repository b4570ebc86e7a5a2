"""Who is asking, and may they: App JWTs, installation tokens, tokens of a workflow's job, personal tokens.

Stricter than GitHub in one point: a token that is not a person's needs its permissions and its repository list for
reading a public repository's API too, so that a permission that somebody forgot shows in every test and not only in
private ones.
"""

import time
from base64 import b64decode
from dataclasses import dataclass, field

import jwt

from tests.github_double.people import LEGACY, ROLES, Token, User
from tests.github_double.refusal import Refused, not_accessible, not_found
from tests.github_double.repository import Repository
from tests.github_double.world import World

_LONGEST_JWT = 600
_SKEW = 60


@dataclass(frozen=True)
class Caller:
    """The one who asks; `kind` is none, app, installation, actions or pat."""

    kind: str = "none"
    user: User | None = None
    token: Token | None = None
    permissions: dict[str, str] = field(default_factory=dict)

    def acting(self) -> User:
        """Return the user in whose name a change is made."""
        if self.user is None:
            raise Refused(401, "Requires authentication")
        return self.user


def authenticate(world: World, authorization: str | None) -> Caller:
    """Return the caller of an Authorization header (token, Bearer or Basic); raise 401 for a bad one."""
    if not authorization:
        return Caller()
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        try:
            value = b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:
            raise Refused(401, "Bad credentials") from None
    elif scheme.lower() not in ("token", "bearer"):
        raise Refused(401, "Bad credentials")
    if value.count(".") == 2:
        check_jwt(world, value)
        return Caller("app")
    token = world.tokens.get(value)
    if token is None or token.revoked or (token.expires_at is not None and world.now() >= token.expires_at):
        raise Refused(401, "Bad credentials")
    if token.of_workflow:
        return Caller("actions", token.user, token, token.permissions)
    if token.installation is None:
        return Caller("pat", token.user, token, token.permissions)
    if token.installation.deleted:
        raise Refused(401, "Bad credentials")
    if token.installation.suspended_at is not None:
        raise Refused(403, "This installation has been suspended")
    return Caller("installation", token.user, token, token.permissions)


def check_jwt(world: World, text: str) -> None:
    """Raise unless a JWT is signed with the App's key and valid now.

    Now is the double's clock or the machine's, whichever suits: a client library signs by the machine's clock even
    where a test steps the double's.
    """
    try:
        claims = jwt.decode(
            text,
            world.app.public_key,
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_iss": False},
        )
    except jwt.PyJWTError:
        raise Refused(401, "A JSON web token could not be decoded") from None
    if str(claims.get("iss")) not in (str(world.app.id), f"Iv23li{world.app.id:014d}"):
        raise Refused(404, "Integration not found")
    issued, expires = claims.get("iat"), claims.get("exp")
    wrong = ""
    for now in (world.clock().timestamp(), time.time()):
        if not isinstance(expires, int) or expires <= now:
            wrong = (
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the "
                "assertion expires"
            )
        elif expires > now + _LONGEST_JWT + 1:
            wrong = "'Expiration time' claim ('exp') is too far in the future"
        elif not isinstance(issued, int) or issued > now + _SKEW:
            wrong = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
        else:
            return
    raise Refused(401, wrong)


def sees(caller: Caller, repository: Repository) -> bool:
    """Tell whether a repository exists at all for a caller."""
    token = caller.token
    if caller.kind == "installation" and token is not None and token.installation is not None:
        allowed = repository.id in token.installation.repository_ids
        return allowed and (token.repository_ids is None or repository.id in token.repository_ids)
    if caller.kind == "actions" and token is not None:
        return token.repository_ids is None or repository.id in token.repository_ids
    if caller.kind == "pat" and caller.user is not None and token is not None:
        reached = token.repository_ids is None or repository.id in token.repository_ids
        return reached and repository.role_of(caller.user) != "none"
    return not repository.private


def require(caller: Caller, repository: Repository, needs: tuple[str, ...]) -> None:
    """Raise unless the caller sees the repository and has one of the permissions, like `issues:write`."""
    if not sees(caller, repository):
        raise not_found()
    if caller.kind == "app":
        raise not_accessible()
    writes = bool(needs) and all(need.endswith(":write") for need in needs)
    if caller.kind == "none" and (writes or not needs):
        raise Refused(401, "Requires authentication")
    if caller.kind in ("installation", "actions") and not has_permission(caller, needs):
        raise not_accessible("; ".join(need.replace(":", "=") for need in needs))
    if caller.kind == "pat" and caller.user is not None:
        _require_of_person(caller, caller.user, repository, needs)
    if writes and repository.archived:
        raise Refused(403, "Repository was archived so is read-only.")


def has_permission(caller: Caller, needs: tuple[str, ...]) -> bool:
    """Tell whether a token holds one of these permissions."""
    for need in needs:
        name, _, level = need.partition(":")
        if caller.permissions.get(name) in ("write", "admin") or caller.permissions.get(name) == level:
            return True
    return not needs


def _require_of_person(caller: Caller, who: User, repository: Repository, needs: tuple[str, ...]) -> None:
    writes = bool(needs) and all(need.endswith(":write") for need in needs)
    if writes and all(need.startswith("checks:") for need in needs):
        raise Refused(403, "You must authenticate via a GitHub App.")
    if caller.permissions and not has_permission(caller, needs):
        needed = "; ".join(need.replace(":", "=") for need in needs)
        headers = {"X-Accepted-GitHub-Permissions": needed}
        raise Refused(403, "Resource not accessible by personal access token", headers=headers)
    talks = any(need.startswith(("issues:", "pull_requests:")) for need in needs)
    least = "read" if talks or not writes else "write"
    if ROLES.index(repository.role_of(who)) < ROLES.index(least):
        raise Refused(403, "Resource not accessible by personal access token")


def legacy_role(role: str) -> str:
    """Return the old name of a role, as `permission` has it beside `role_name`."""
    return LEGACY.get(role, role)
