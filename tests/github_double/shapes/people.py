"""The JSON of users, of the App, of its installations."""

from typing import Any

from tests.github_double.people import App, Installation, User
from tests.github_double.world import World, stamp

Json = dict[str, Any]


def user(world: World, who: User | None) -> Json | None:
    """Return a simple user; None for nobody."""
    if who is None:
        return None
    quoted = who.login.replace("[", "%5B").replace("]", "%5D")
    api = f"{world.api_url}/users/{quoted}"
    page = f"{world.server_url}/{who.login}"
    if who.type == "Bot":
        page = f"{world.server_url}/apps/{who.login.removesuffix('[bot]')}"
    return {
        "login": who.login,
        "id": who.id,
        "node_id": who.node_id,
        "avatar_url": f"{world.server_url}/avatars/u/{who.id}?v=4",
        "gravatar_id": "",
        "url": api,
        "html_url": page,
        "followers_url": f"{api}/followers",
        "following_url": f"{api}/following{{/other_user}}",
        "gists_url": f"{api}/gists{{/gist_id}}",
        "starred_url": f"{api}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{api}/subscriptions",
        "organizations_url": f"{api}/orgs",
        "repos_url": f"{api}/repos",
        "events_url": f"{api}/events{{/privacy}}",
        "received_events_url": f"{api}/received_events",
        "type": who.type,
        "user_view_type": "public",
        "site_admin": False,
    }


def public_user(world: World, who: User) -> Json:
    """Return a user's profile."""
    made = stamp(world.app.created_at)
    empty = dict.fromkeys(("name", "company", "location", "email", "hireable", "bio"))
    counts = {"public_repos": 0, "public_gists": 0, "followers": 0, "following": 0}
    return (user(world, who) or {}) | empty | {"blog": "", "created_at": made, "updated_at": made} | counts


def app(world: World, which: App) -> Json:
    """Return an integration, as it stands in check runs and in `performed_via_github_app`."""
    return {
        "id": which.id,
        "client_id": f"Iv23li{which.id:014d}",
        "slug": which.slug,
        "node_id": which.node_id,
        "owner": user(world, which.owner),
        "name": which.name,
        "description": "Takes an issue through a workflow",
        "external_url": world.server_url,
        "html_url": f"{world.server_url}/apps/{which.slug}",
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.created_at),
        "permissions": dict(which.permissions),
        "events": list(which.events),
    }


def via_app(world: World, author: User) -> Json | None:
    """Return the App where the author is its bot, ours or GitHub Actions."""
    return next((app(world, each) for each in (world.app, world.actions) if author is each.bot), None)


def installation(world: World, which: Installation) -> Json:
    """Return an installation."""
    api = world.api_url
    return {
        "id": which.id,
        "client_id": f"Iv23li{world.app.id:014d}",
        "account": user(world, which.account),
        "repository_selection": "selected",
        "access_tokens_url": f"{api}/app/installations/{which.id}/access_tokens",
        "repositories_url": f"{api}/installation/repositories",
        "html_url": f"{world.server_url}/settings/installations/{which.id}",
        "app_id": world.app.id,
        "app_slug": world.app.slug,
        "target_id": which.account.id,
        "target_type": which.account.type,
        "permissions": dict(world.app.permissions),
        "events": list(world.app.events),
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.created_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": user(world, which.suspended_by),
        "suspended_at": stamp(which.suspended_at),
    }
