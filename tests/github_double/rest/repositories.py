"""A repository and what a user may do in it."""

from typing import Any

from tests.github_double import auth
from tests.github_double.call import REPOSITORY, Call, route
from tests.github_double.refusal import Refused
from tests.github_double.shapes import repositories


@route("GET", REPOSITORY, "metadata:read")
def get_repository(call: Call) -> Any:
    """The repository."""
    push = call.caller.permissions.get("contents") == "write"
    return repositories.full_repository(call.world, call.repository, push=push)


@route("GET", REPOSITORY + "/collaborators/{username}/permission", "metadata:read")
def get_permission(call: Call) -> Any:
    """A user's effective permission, in its old name and in its own."""
    login = call.parts["username"]
    found = call.world.users.get(login.lower())
    if found is None or found.type != "User":
        raise Refused(404, f"{login} is not a user")
    role = call.repository.role_of(found)
    return {
        "permission": auth.legacy_role(role),
        "role_name": role,
        "user": repositories.collaborator(call.world, found, role),
    }
