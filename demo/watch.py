"""What a person who looks at the issue and the pull request sees change, printed as it happens."""

import time
from collections.abc import Callable

from rich.console import Console

from demo.reading import page
from tests.github_double.records import Comment, Reaction
from tests.github_double.repository import Repository

_GLANCE_SECONDS = 0.05
_EMOJI = {"eyes": "👀", "rocket": "🚀", "confused": "😕"}


class Watcher:
    """Looks at one repository again and again, and prints what is new since the last look."""

    def __init__(self, console: Console, repository: Repository) -> None:
        self._console = console
        self._repository = repository
        self._seen: dict[tuple[str, ...], str] = {}
        self._began = time.monotonic()

    def until(self, reached: Callable[[], bool], seconds: float = 90.0) -> None:
        """Watch until `reached`; raises `TimeoutError` where it takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            done = reached()
            self.look()
            if done:
                return
            if time.monotonic() > deadline:
                raise TimeoutError("the demo does not get on; its server's log is in .demo/server.log")
            time.sleep(_GLANCE_SECONDS)

    def look(self) -> None:
        """Print what is new."""
        for issue in self._repository.issues:
            place = f"issue #{issue.number}"
            self._reactions(place, issue.reactions)
            self._comments(place, issue.comments)
        for pull in self._repository.pulls:
            place = f"pull request #{pull.number}"
            draft = "draft " if pull.draft else ""
            if self._new(("pull", place), pull.title):
                self.tell(f"{draft}{place} opened: {pull.title}")
            state = "closed" if pull.state == "closed" else "draft" if pull.draft else "ready for review"
            if self._new(("state", place), state) and state != "draft":
                self.tell(f"{place} is {state}")
            self._comments(place, pull.comments)
            for review in list(pull.reviews):
                self._reactions(f"{review.author.login}'s review", review.reactions)
            for check in self._repository.checks(pull.head_sha):
                said = f"{check.conclusion or check.status}: {check.title}"
                if self._new(("check",), said):
                    self.tell(f"check {check.name} on {pull.head_sha[:7]}: {said}")

    def tell(self, text: str) -> None:
        """Print one line with the time since the begin."""
        self._console.print(f"{time.monotonic() - self._began:5.1f} s  {text}", markup=False, highlight=False)

    def _reactions(self, place: str, reactions: list[Reaction]) -> None:
        for one in list(reactions):
            if self._new(("reaction", place, one.user.login, one.content), one.content):
                self.tell(f"{_EMOJI.get(one.content, one.content)}  by {one.user.login} on {place}")

    def _comments(self, place: str, comments: list[Comment]) -> None:
        for comment in comments:
            name = f"comment {comment.id} on {place}"
            self._reactions(f"{comment.author.login}'s comment", comment.reactions)
            known = ("comment", name) in self._seen
            if not self._new(("comment", name), comment.body) or not comment.author.login.endswith("[bot]"):
                continue
            headline = _headline(comment.body)
            changed = self._new(("headline", name), headline)
            if not known:
                self._console.print()
                page(self._console, f"{comment.author.login} commented on {place}", comment.body)
            elif changed:
                self.tell(f"{comment.author.login} edited its comment on {place}: {headline}")

    def _new(self, key: tuple[str, ...], value: str) -> bool:
        if self._seen.get(key) == value:
            return False
        self._seen[key] = value
        return True


def _headline(body: str) -> str:
    lines = [line.strip("#*_ ") for line in body.splitlines()]
    return next((line for line in lines if line and not line.startswith("<!--")), "")
