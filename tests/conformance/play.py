"""Holds a conversation on a host: does what its steps say, and compares what is seen with what they say is seen."""

from typing import Any

from tests.conformance import seen, told
from tests.conformance.backends.base import Backend, World
from tests.conformance.format import (
    Closes,
    Comments,
    Commits,
    Conversation,
    Corrects,
    Edits,
    Labels,
    Reviews,
    Seen,
    Step,
)
from tests.github_double import User
from tests.support.engines import config
from tests.support.repositories import git


async def hold(conversation: Conversation, host: Backend) -> None:
    """Hold the whole conversation; a step after which something else is seen fails with its number."""
    play = _Play(host)
    for number, step in enumerate(conversation.steps, 1):
        thing = play.do(step)
        await host.settled()
        if step.again:
            await host.again()
            await host.settled()
        play.remember(step, thing)
        where, wanted = f"step {number}, {step.who}: {step.does!r}", step.seen or Seen()
        assert host.job in (None, wanted.job), f"{where}: the job has {host.job}"
        await seen.check(host, wanted, thing, where)
        if wanted.told is not None and host.ended is not None:
            told.check(host.world, await host.runs(), host.ended, wanted.told, where)


class _Play:
    """What happens on GitHub, and what steps with a name have left there."""

    def __init__(self, host: Backend) -> None:
        self._world: World = host.world
        self._things: dict[str, Any] = {}
        self._heads: dict[str, str] = {}

    def do(self, step: Step) -> Any:
        """Do what a step says; returns what it made: the issue for a label, a comment, a review."""
        world = self._world
        who = world.people[step.who]
        match step.does:
            case Labels(label=label):
                world.the_issue.label(who, label)
                return world.the_issue
            case Comments(comment=text, at=place):
                return (world.the_issue if place == "issue" else world.the_pull).comment(who, text)
            case Edits(edit=name, to=text):
                comment = self._things[name]
                comment.issue.edit_comment(who, comment, text)
                return comment
            case Reviews() as review:
                return self._review(who, review)
            case Corrects(correct=old, to=new):
                return self._correct(who, old, new)
            case Commits(configuration=values):
                files = {".github/devflow.yml": config(**values)}
                return world.repository.commit(world.repository.default_branch, files, who)
            case Closes(close=place):
                thing = world.the_issue if place == "issue" else world.the_pull
                thing.close(who)
                return thing

    def remember(self, step: Step, thing: Any) -> None:
        """Keep what later steps may speak of."""
        if step.name:
            self._things[step.name] = thing
            if self._world.repository.pulls:
                self._heads[step.name] = self._world.the_pull.head_sha

    def _review(self, who: User, review: Reviews) -> Any:
        pull = self._world.the_pull
        path = self._specification("spec.md") if review.lines else ""
        lines = [(path, line, text) for line, text in review.lines.items()]
        commit = self._heads[review.of] if review.of else None
        return pull.review(who, review.review, review.saying, commit_id=commit, comments=lines)

    def _correct(self, who: User, old: str, new: str) -> str:
        repository, branch = self._world.repository, self._world.the_pull.head_ref
        path = self._specification("spec.json")
        text = repository.read(branch, path)
        assert text is not None and old in text
        return repository.commit(branch, {path: text.replace(old, new)}, who, "By hand")

    def _specification(self, name: str) -> str:
        branch = self._world.the_pull.head_ref
        listed = git(self._world.repository.git_dir, "ls-tree", "-r", "--name-only", branch).splitlines()
        (path,) = [path for path in listed if path.endswith(f"/{name}")]
        return path
