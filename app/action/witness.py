"""What GitHub itself says about what people are said to have done on an issue: comments, reviews, labels, rights.

Asked anew in each step, and each thing once. `trust` holds a state that was loaded against it, and events that came
with such a state.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.github.client import GitHubRepository
from app.github.faults import Gone, Refused
from app.github.shapes import Comment, Edit, Happening, Person, Pull, Review
from app.inbound.permissions import Standing, standing
from app.surface.render import marker_of
from engine.domain.artifact import digest

_SLACK = timedelta(seconds=5)  # between the times that GitHub gives an issue and its event
_LATE = timedelta(minutes=1)  # how much later than its label an issue can have changed before its event was written
DISMISSED = "dismissed"


class Witness:
    """Asks about one issue and the pull requests of these branches; methods raise a fault where GitHub is not there.

    `is_gone`: the issue was deleted or transferred, with all that was said on it.
    """

    def __init__(
        self, github: GitHubRepository, issue_number: int, branches: Sequence[str] = (), *, is_gone: bool = False
    ) -> None:
        self.github = github
        self.issue_number = issue_number
        self._is_gone = is_gone
        self._branches = branches
        self._comments: dict[int, list[Comment]] = {}
        self._edits: dict[str, Edit] = {}
        self._happenings: dict[int, list[Happening]] = {}
        self._pulls: dict[str, list[Pull]] = {}
        self._standings: dict[tuple[int, str], Standing] = {}
        self._trees: dict[str, str | None] = {}

    async def pulls(self, branch: str) -> list[Pull]:
        """Return the pull requests from a branch of the repository, closed ones too."""
        if branch not in self._pulls:
            self._pulls[branch] = await self.github.pulls_of(branch)
        return self._pulls[branch]

    async def comments(self) -> list[Comment]:
        """Return the comments on the issue and on the pull requests of its runs."""
        pulls = [pull.number for branch in self._branches for pull in await self.pulls(branch)]
        places = [self.issue_number, *pulls]
        return [comment for place in places for comment in await self._comments_on(place)]

    async def _comments_on(self, number: int) -> list[Comment]:
        if self._is_gone and number == self.issue_number:
            return []
        if number not in self._comments:
            found = self._comments[number] = await self.github.comments(number)
            self._edits |= await self.github.edits([comment.node_id for comment in found])
        return self._comments[number]

    def last_edit(self, comment: Comment) -> Edit | None:
        """Return the last change of a comment that `comments` has returned, None where there was none."""
        return self._edits.get(comment.node_id)

    async def ours(self, key: str) -> Comment | None:
        """Return the first comment of ours with a surface's key, as nobody but us has left it."""
        for comment in sorted(await self.comments(), key=lambda item: item.id):
            if marker_of(comment.body) != key or not await self.github.is_ours(comment.author):
                continue
            edit = self.last_edit(comment)
            return comment if edit is None or edit.login.casefold() == comment.author.login.casefold() else None
        return None

    async def review(self, branch: str, review_id: int) -> Review | None:
        """Return a review of one of the branch's pull requests, with the state it had before somebody dismissed it."""
        for pull in await self.pulls(branch):
            try:
                review = await self.github.review(pull.number, review_id)
            except Gone:
                continue
            if review.state != DISMISSED:
                return review
            before = [one.review_state for one in await self.happenings(pull.number) if one.review_id == review_id]
            return Review(**{**vars(review), "state": before[-1] if before else DISMISSED})
        return None

    async def happenings(self, number: int) -> list[Happening]:
        """Return what happened to the issue or a pull request, oldest first."""
        if number not in self._happenings:
            self._happenings[number] = await self.github.happenings(number)
        return self._happenings[number]

    async def labeller(self, label: str, at: datetime) -> Person | None:
        """Return who put a label on the issue at a time, None where nobody did."""
        found = [
            one
            for one in await self.happenings(self.issue_number)
            if one.event == "labeled"
            and one.label.casefold() == label.casefold()
            and at - _LATE <= one.created_at <= at + _SLACK
        ]
        return found[-1].actor if found else None

    async def standing(self, person: Person) -> Standing:
        """Return what a person may do now."""
        key = (person.id, person.login.casefold())
        if key not in self._standings:
            self._standings[key] = await standing(self.github, person)
        return self._standings[key]

    async def tree_of(self, commit: str) -> str | None:
        """Return the tree of a commit, None for one that is not there."""
        if commit not in self._trees:
            try:
                self._trees[commit] = await self.github.tree_of(commit)
            except (Gone, Refused):
                self._trees[commit] = None
        return self._trees[commit]

    async def digests(self, commit: str, paths: Sequence[str]) -> set[str]:
        """Return the digests of those files that a commit holds."""
        found = set()
        for path in paths:
            try:
                data = await self.github.file(path, commit)
            except Refused:
                continue
            if data is not None:
                found.add(digest(data))
        return found
