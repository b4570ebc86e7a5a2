"""The REST endpoints, a module a topic; importing this package fills the table of routes."""

from tests.github_double.rest import (
    apps,
    checks,
    comments,
    contents,
    deliveries,
    issues,
    labels,
    pulls,
    reactions,
    repositories,
    reviews,
)

__all__ = [
    "apps",
    "checks",
    "comments",
    "contents",
    "deliveries",
    "issues",
    "labels",
    "pulls",
    "reactions",
    "repositories",
    "reviews",
]
