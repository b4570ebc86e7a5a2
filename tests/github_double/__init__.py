"""A GitHub for tests and the demo: it keeps state, speaks HTTP, git and webhooks, and refuses what GitHub refuses.

    with GitHubDouble(folder, webhook_url="http://127.0.0.1:8000/webhooks/github") as github:
        ada = github.person("ada")
        repository = github.repository("octo/billsplit", files={"README.md": "# Bills"})
        repository.permit(ada, "write")
        repository.open_issue(ada, "Round the shares").label(ada, "devflow")

`double.py` is what tests hold; `world.py` and the objects it holds (`repository.py`, `issue.py`, `pull.py`) are the
state with its rules; `server.py` serves it (`rest/`, `graphql.py`, `git_http.py`) behind `gate.py`; `webhooks.py` and
`outbox.py` tell of what happened. `schemas.py` holds all of it against GitHub's published schemas, for tests only.
"""

from tests.github_double.bare import ZERO
from tests.github_double.double import GitHubDouble
from tests.github_double.faults import Plan
from tests.github_double.gate import Request
from tests.github_double.issue import Issue
from tests.github_double.outbox import Delivery
from tests.github_double.people import App, Token, User
from tests.github_double.pull import Pull
from tests.github_double.records import CheckRun, Comment, Reaction, Review, ReviewComment, Status
from tests.github_double.refusal import Refused
from tests.github_double.repository import Repository

__all__ = [
    "ZERO",
    "App",
    "CheckRun",
    "Comment",
    "Delivery",
    "GitHubDouble",
    "Issue",
    "Plan",
    "Pull",
    "Reaction",
    "Refused",
    "Repository",
    "Request",
    "Review",
    "ReviewComment",
    "Status",
    "Token",
    "User",
]
