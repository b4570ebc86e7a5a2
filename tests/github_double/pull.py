"""A pull request: its branch, its reviews, and what people do with it."""

import re
from typing import TYPE_CHECKING

from tests.github_double import webhooks
from tests.github_double.issue import Issue, check_body
from tests.github_double.people import User, node_id
from tests.github_double.records import Review, ReviewComment
from tests.github_double.refusal import Refused, invalid

if TYPE_CHECKING:
    from tests.github_double.repository import Repository

VERDICTS = {"approve": "APPROVED", "request_changes": "CHANGES_REQUESTED", "comment": "COMMENTED"}
_CLOSING = re.compile(r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+#(\d+)", re.IGNORECASE)


class Pull(Issue):
    """A pull request of a branch of the same repository; `id` is not the id of its issue (`issue_id`)."""

    is_pull = True
    _resource = "PullRequest"

    def __init__(
        self,
        repository: "Repository",
        number: int,
        author: User,
        title: str,
        body: str | None,
        *,
        head: str,
        base: str,
        draft: bool,
    ) -> None:
        self._id = repository.world.new_id("pull")
        super().__init__(repository, number, author, title, body)
        self.head_ref, self.base_ref = head, base
        self.head_sha, self.base_sha = repository.head(head), repository.head(base)
        self.draft = draft
        self.reviews: list[Review] = []
        self.merged_by: User | None = None
        self.merge_commit_sha: str | None = None
        self._size: tuple[str, tuple[int, int, int, int]] | None = None

    @property
    def id(self) -> int:
        """The database id of the pull request."""
        return self._id

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("PR", self._id)

    @property
    def merged(self) -> bool:
        """Whether it has been merged."""
        return self.merged_at is not None

    def size_of_change(self) -> tuple[int, int, int, int]:
        """Return commits, additions, deletions, changed files."""
        if self._size is None or self._size[0] != self.head_sha:
            self._size = (self.head_sha, self.repository.git.size_of_change(self.base_sha, self.head_sha))
        return self._size[1]

    def review(
        self,
        by: User,
        verdict: str,
        body: str = "",
        commit_id: str | None = None,
        comments: list[tuple[str, int, str]] | None = None,
    ) -> Review:
        """Submit a review; `verdict` is approve, request_changes or comment, `comments` are (path, line, text)."""
        world = self.repository.world
        with world.lock:
            comments = comments or []
            if by is self.author and verdict != "comment":
                what = "approve" if verdict == "approve" else "request changes on"
                raise Refused(422, "Unprocessable Entity", [f"Review Can not {what} your own pull request"])
            if verdict != "approve" and not body.strip() and not comments:
                raise Refused(422, "Unprocessable Entity", ["Review body cannot be blank"])
            check_body("PullRequestReview", body)
            commit = commit_id or self.head_sha
            if self.repository.git.resolve(commit) is None:
                raise invalid("PullRequestReview", "commit_id", "invalid")
            made = Review(world.new_id("review"), self, by, VERDICTS[verdict], body, commit, world.now())
            for path, line, text in comments:
                check_body("PullRequestReviewComment", text, required=True)
                part = ReviewComment(world.new_id("review_comment"), made, path, line, text, world.now())
                made.comments.append(part)
                world.nodes[part.node_id] = part
            self.reviews.append(made)
            world.nodes[made.node_id] = made
            webhooks.on_review(made, "submitted", by)
            for part in made.comments:
                webhooks.on_review_comment(part, by)
            return made

    def edit_review(self, by: User, review: Review, body: str) -> None:
        """Change a review's text."""
        with self.repository.world.lock:
            before, review.body = review.body, check_body("PullRequestReview", body)
            webhooks.on_review(review, "edited", by, changes={"body": {"from": before}})

    def dismiss_review(self, by: User, review: Review, message: str = "Dismissed") -> None:
        """Dismiss an approval or a request for changes."""
        with self.repository.world.lock:
            if review.state not in ("APPROVED", "CHANGES_REQUESTED"):
                raise Refused(422, "Unprocessable Entity", ["Can not dismiss a commented pull request review"])
            dismissed = {"state": review.state.lower(), "review_id": review.id, "dismissal_message": message}
            self._happened("review_dismissed", by, dismissed_review=dismissed)
            review.state = "DISMISSED"
            webhooks.on_review(review, "dismissed", by)

    def ready_for_review(self, by: User) -> None:
        """Take the draft mark off."""
        with self.repository.world.lock:
            if self.draft:
                self.draft = False
                self._happened("ready_for_review", by)
                webhooks.on_issue(self, "ready_for_review", by)

    def convert_to_draft(self, by: User) -> None:
        """Make it a draft again."""
        with self.repository.world.lock:
            self.repository.check_drafts()
            if not self.draft:
                self.draft = True
                self._happened("convert_to_draft", by)
                webhooks.on_issue(self, "converted_to_draft", by)

    def change_base(self, by: User, base: str) -> None:
        """Have it go into another branch."""
        with self.repository.world.lock:
            changes = {"base": {"ref": {"from": self.base_ref}, "sha": {"from": self.base_sha}}}
            self.base_ref, self.base_sha = base, self.repository.head(base)
            self._happened("base_ref_changed", by)
            webhooks.on_issue(self, "edited", by, changes=changes)

    def update_branch(self, by: User) -> str:
        """Merge the base branch into the head, as the button "Update branch" does; returns the new head."""
        with self.repository.world.lock:
            message = f"Merge branch '{self.base_ref}' into {self.head_ref}"
            merged = self._merge(self.head_sha, self.repository.head(self.base_ref), message, by)
            self.repository.git.set_ref(f"refs/heads/{self.head_ref}", merged)
            self.repository.refs_changed(by)
            return merged

    def merge(self, by: User) -> str:
        """Merge it into its base; closes what its body says that it closes. Returns the merge commit."""
        with self.repository.world.lock:
            if self.state != "open" or self.draft:
                raise Refused(405, "Pull Request is still a draft" if self.draft else "Pull Request is not mergeable")
            self._size = (self.head_sha, self.size_of_change())
            message = f"Merge pull request #{self.number} from {self.repository.owner.login}/{self.head_ref}"
            merged = self._merge(self.repository.head(self.base_ref), self.head_sha, message, by)
            self.merge_commit_sha = merged
            self.repository.git.set_ref(f"refs/heads/{self.base_ref}", merged)
            self.merged_at, self.merged_by = self.repository.world.now(), by
            self._happened("merged", by)
            self.close(by)
            self.repository.refs_changed(by)
            for number in _CLOSING.findall(self.body or ""):
                issue = self.repository.numbered.get(int(number))
                if issue is not None and self.base_ref == self.repository.default_branch:
                    issue.close(by)
            return merged

    def reopen(self, by: User) -> None:
        """Open it again; refused where it was merged or its branch is gone."""
        with self.repository.world.lock:
            branch = self.repository.branches().get(self.head_ref)
            if self.merged or branch is None:
                raise invalid("PullRequest", "state", "invalid", "state cannot be changed. The branch was deleted.")
            self.head_sha = branch
            super().reopen(by)

    def moved(self, by: User, before: str, after: str) -> None:
        """Follow the head branch to its new commit."""
        self.head_sha = after
        self.updated_at = self.repository.world.now()
        webhooks.on_synchronize(self, by, before, after)

    def _merge(self, onto: str, other: str, message: str, by: User) -> str:
        repository = self.repository
        merged = repository.git.merge(
            onto,
            other,
            message=message,
            name=by.login,
            email=repository.email_of(by),
            at=repository.world.now(),
        )
        if merged is None:
            raise Refused(409, "Merge conflict")
        return merged
