"""What we ask and tell on pull requests: opening and changing them, their reviews, and what GraphQL alone can do."""

from functools import partial
from typing import Any

from app.github.answers import pull_of, review_comment_of, review_of
from app.github.reading import Fields
from app.github.repository import RepositoryCalls
from app.github.shapes import MinimiseReason, Pull, PullState, Review, ReviewComment


class Pulls(RepositoryCalls):
    """The pull requests of a repository; faults as in `RepositoryCalls`."""

    async def pull(self, number: int) -> Pull:
        """Return a pull request as it is now."""
        return self._read(pull_of, await self._get(f"pulls/{number}"))

    async def pulls_of(self, branch: str) -> list[Pull]:
        """Return the pull requests from a branch of this repository, closed ones too, newest first."""
        query = {"head": f"{self.owner}:{branch}", "state": "all"}
        pulls = self._read_all(pull_of, await self._all("pulls", query))
        return [pull for pull in pulls if pull.head_ref == branch and pull.head_repository_id == self.repository_id]

    async def create_pull(self, title: str, body: str, head: str, base: str, draft: bool) -> Pull:
        """Open a pull request from the branch `head`; `Refused` with 422 where there is one or drafts are not had."""
        values = {"title": title, "body": body, "head": head, "base": base, "draft": draft}
        return self._read(pull_of, await self._write("POST", "pulls", values))

    async def update_pull(
        self, number: int, *, title: str | None = None, body: str | None = None, state: PullState | None = None
    ) -> Pull:
        """Change what is given of a pull request."""
        values: dict[str, Any] = {"title": title, "body": body, "state": state}
        given = {name: value for name, value in values.items() if value is not None}
        return self._read(pull_of, await self._write("PATCH", f"pulls/{number}", given))

    async def ready_for_review(self, node_id: str) -> None:
        """Make a draft an ordinary pull request."""
        await self._mutate("markPullRequestReadyForReview", {"pullRequestId": node_id}, "pullRequest { isDraft }")

    async def review(self, number: int, review_id: int) -> Review:
        """Return a review as it is now."""
        return self._read(review_of, await self._get(f"pulls/{number}/reviews/{review_id}"))

    async def reviews(self, number: int) -> list[Review]:
        """Return the reviews of a pull request, in the order in which they were submitted."""
        return self._read_all(review_of, await self._all(f"pulls/{number}/reviews"))

    async def review_comments(self, number: int, review_id: int) -> list[ReviewComment]:
        """Return the inline comments of a review, in the order in which they were written."""
        # the list of one review's own comments would be shorter, but has no lines
        found = self._read_all(partial(_comment_of, review_id), await self._all(f"pulls/{number}/comments"))
        return [comment for comment in found if comment is not None]

    async def minimise(self, node_id: str, reason: MinimiseReason) -> None:
        """Fold a comment away, with the reason that people see."""
        await self._mutate(
            "minimizeComment", {"subjectId": node_id, "classifier": reason}, "minimizedComment { isMinimized }"
        )


def _comment_of(review_id: int, fields: Fields) -> ReviewComment | None:
    return review_comment_of(fields) if fields.maybe_number("pull_request_review_id") == review_id else None
