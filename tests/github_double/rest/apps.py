"""The App about itself: who it is, where it is installed, tokens for its installations."""

from typing import Any

from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.people import TOKEN_LIFE, Installation
from tests.github_double.refusal import Refused, not_found
from tests.github_double.shapes import people, repositories
from tests.github_double.world import stamp

_APP = ("app",)
_LEVELS = ("read", "write", "admin")


@route("GET", "/app", kinds=_APP)
def get_app(call: Call) -> Any:
    """The App itself."""
    live = [each for each in call.world.installations.values() if not each.deleted]
    return people.app(call.world, call.world.app) | {"installations_count": len(live)}


@route("GET", "/app/installations", kinds=_APP)
def list_installations(call: Call) -> Any:
    """Every installation."""
    live = [each for each in call.world.installations.values() if not each.deleted]
    return call.page([people.installation(call.world, each) for each in live])


@route("GET", "/app/installations/{installation_id}", kinds=_APP)
def get_installation(call: Call) -> Any:
    """One installation."""
    return people.installation(call.world, _installation(call))


@route("GET", REPOSITORY + "/installation", kinds=_APP)
def get_repository_installation(call: Call) -> Any:
    """The installation that has a repository."""
    installation = call.repository.installation
    if installation is None:
        raise not_found()
    return people.installation(call.world, installation)


@route("POST", "/app/installations/{installation_id}/access_tokens", kinds=_APP)
def create_token(call: Call) -> Any:
    """A token for an hour, for the repositories and permissions that are asked for."""
    world, installation = call.world, _installation(call)
    if installation.suspended_at is not None:
        raise Refused(403, "This installation has been suspended")
    granted = dict(world.app.permissions)
    wanted = call.body.get("permissions") or {}
    for name, level in wanted.items():
        if name not in granted or _LEVELS.index(level) > _LEVELS.index(granted[name]):
            raise Refused(422, "The permissions requested are not granted to this installation.")
    permissions = ({"metadata": "read"} | wanted) if wanted else granted
    chosen = _chosen(call, installation)
    token = world.issue_token(
        "ghs_",
        world.app.bot,
        installation=installation,
        permissions=permissions,
        repository_ids=None if chosen is None else frozenset(chosen),
        expires_at=world.now() + TOKEN_LIFE,
    )
    body: dict[str, Any] = {
        "token": token.text,
        "expires_at": stamp(token.expires_at),
        "permissions": permissions,
        "repository_selection": "selected",
    }
    if chosen is not None:
        body["repositories"] = [repositories.repository(world, world.repositories[each]) for each in chosen]
    return Answer(201, body)


@route("GET", "/installation/repositories", kinds=("installation",))
def list_repositories(call: Call) -> Any:
    """The repositories that a token may see."""
    token = call.caller.token
    assert token is not None
    assert token.installation is not None
    allowed = token.installation.repository_ids
    ids = sorted(allowed if token.repository_ids is None else allowed & token.repository_ids)
    rows = [repositories.repository(call.world, call.world.repositories[each]) for each in ids]
    return call.page(rows, lambda part: {"total_count": len(rows), "repositories": part})


@route("DELETE", "/installation/token", kinds=("installation",))
def revoke_token(call: Call) -> Any:
    """The end of the token that asks."""
    assert call.caller.token is not None
    call.caller.token.revoked = True
    return Answer(204)


@route("GET", "/user", kinds=("pat",))
def get_user(call: Call) -> Any:
    """The person whose token it is."""
    return people.public_user(call.world, call.user)


@route("GET", "/users/{username}", kinds=("none", "pat", "installation", "actions"))
def get_by_username(call: Call) -> Any:
    """Anybody's profile."""
    found = call.world.users.get(call.parts["username"].lower())
    if found is None:
        raise not_found()
    return people.public_user(call.world, found)


def _installation(call: Call) -> Installation:
    found = call.world.installations.get(call.number("installation_id"))
    if found is None or found.deleted:
        raise not_found()
    return found


def _chosen(call: Call, installation: Installation) -> list[int] | None:
    ids, names = call.body.get("repository_ids"), call.body.get("repositories")
    if ids is None and names is None:
        return None
    chosen = list(ids or [])
    known = [call.world.repositories[each] for each in installation.repository_ids]
    chosen += [each.id for each in known if each.name in (names or [])]
    if not set(chosen) <= installation.repository_ids or len(chosen) < len(ids or []) + len(names or []):
        raise Refused(
            422,
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    return chosen
