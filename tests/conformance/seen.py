"""What people see of a conversation: compared with what a step says, and as a whole, for comparing hosts.

The whole is without what has to differ between two repositories and two hosts: ids, commits, addresses, times, and the
name under which the host writes.
"""

import json
import re
from collections import Counter
from typing import Any

from app.surface.render import marker_of
from tests.conformance.backends.base import Backend, Run, World
from tests.conformance.format import Seen
from tests.github_double import Comment, Issue, Pull

Json = dict[str, Any]
_HASH = r"[0-9a-f]{%s}"
_VARIES = (
    (re.compile(rf"{_HASH % 8}(-{_HASH % 4}){{3}}-{_HASH % 12}"), "<uuid>"),
    (re.compile(rf"\b{_HASH % 64}\b"), "<digest>"),
    (re.compile(rf"\b{_HASH % 40}\b"), "<sha>"),
    (re.compile(rf"\b{_HASH % 12}\b"), "<sha>"),
    (re.compile(rf"\b(?=[a-f]*[0-9]){_HASH % 8}\b"), "<id>"),
    (re.compile(rf"(?<=`){_HASH % 7}(?=`)|(?<=/approve ){_HASH % 7}\b"), "<sha>"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "<server>"),
    (re.compile(r"(issuecomment-|/(?:comment|review|label|issue)/)\d+"), r"\1<number>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?|\b\d{8}T\d{6}Z"), "<time>"),
    (re.compile(r"(under )?\b\d+(\.\d+)? (s|ms|seconds?|minutes?)\b"), "<duration>"),
)


async def check(host: Backend, wanted: Seen, thing: Any, where: str) -> None:
    """Compare what is seen with what is wanted; `thing` is what the step made. A difference is told with `where`."""
    world = host.world
    runs = await host.runs()
    found: Json = {}
    if wanted.runs is not None:
        found["runs"] = [run.state for run in runs]
    if wanted.decisions is not None:
        found["decisions"] = decisions(runs)
    if wanted.reactions is not None:
        found["reactions"] = [one.content for one in thing.reactions if one.user.login == world.bot]
    if wanted.pulls is not None:
        found["pulls"] = [state_of(pull) for pull in world.repository.pulls]
    if wanted.check is not None:
        found["check"] = (_checks(world, world.the_pull) or [{"conclusion": None}])[-1]["conclusion"]
    for name, value in found.items():
        assert value == getattr(wanted, name), f"{where}: {name} is {value!r}, not {getattr(wanted, name)!r}"
    for place, parts in (("issue", wanted.issue), ("pull", wanted.pull)):
        if parts is not None:
            page = world.the_issue if place == "issue" else world.the_pull
            _compare(ours(world, page), [next(iter(part.items())) for part in parts], f"{where}: comments on {place}")
    for path, part in wanted.branch.items():
        text = world.repository.read(runs[-1].branch, path)
        assert text is not None and part in text, f"{where}: {path} is {text!r}"


def decisions(runs: list[Run]) -> list[str]:
    """Return what people decided, in order, as a conversation says it."""
    return [str(decision) for run in runs for decision in run.decisions]


def ours(world: World, page: Issue) -> list[Comment]:
    """Return the host's comments on a page, oldest first."""
    return [comment for comment in page.comments if comment.author.login == world.bot]


def kind_of(comment: Comment) -> str:
    """Return what sort of comment of ours it is."""
    parts = str(marker_of(comment.body)).split("/")
    return parts[0] if parts[0] == "reply" else parts[2]


def state_of(pull: Pull) -> str:
    """Return where a pull request stands, in one word."""
    if pull.merged:
        return "merged"
    return pull.state if pull.state == "closed" else "draft" if pull.draft else "ready"


def _compare(comments: list[Comment], wanted: list[tuple[str, str]], where: str) -> None:
    """Compare without regard to order: what follows from one act is written in an order that depends on time."""
    shown = "\n".join(f"  {kind_of(one)}: {_headline(one)}" for one in comments)
    assert sorted(kind_of(one) for one in comments) == sorted(kind for kind, _ in wanted), f"{where}:\n{shown}"
    left = list(comments)
    for kind, part in wanted:
        found = next((one for one in left if kind_of(one) == kind and part in one.body), None)
        assert found is not None, f"{where}: no {kind} with {part!r} in\n{shown}"
        left.remove(found)


def _headline(comment: Comment) -> str:
    return next((line for line in comment.body.split("\n")[1:] if line.strip()), "")


async def whole(host: Backend) -> Json:
    """Return everything that is to be seen at the end, and what the store says, without what has to differ."""
    world, runs = host.world, await host.runs()
    pages = [world.repository.numbered[number] for number in sorted(world.repository.numbered)]
    return {
        "runs": [run.state for run in runs],
        "decisions": [_same(world, one) for one in decisions(runs)],
        "pages": [_page(world, page) for page in pages],
        "branches": sorted(_same(world, name) for name in world.repository.branches()),
        "code": [world.repository.read(run.branch, "answer.py") for run in runs],
    }


def lines(found: Json) -> list[str]:
    """Return the whole line by line, so that a difference can be read."""
    return json.dumps(found, indent=1, ensure_ascii=False).split("\n")


def assert_single(world: World) -> None:
    """Assert what holds at every end: nothing of ours stands anywhere twice, and nothing without its marker."""
    pages = world.repository.numbered.values()
    keys = Counter(marker_of(comment.body) for page in pages for comment in ours(world, page))
    assert None not in keys
    assert not [key for key, times in keys.items() if times > 1], keys
    heads = Counter(pull.head_ref for pull in world.repository.pulls)
    assert set(heads.values()) <= {1}, heads


def _page(world: World, page: Issue) -> Json:
    found: Json = {
        "title": page.title,
        "state": page.state,
        "author": _same(world, page.author.login),
        "reactions": _reactions(world, page),
        "labels": sorted(page.labels),
        "said": [_comment(world, one) for one in page.comments if one.author.login != world.bot],
        "answered": sorted((_comment(world, one) for one in ours(world, page)), key=str),
    }
    if isinstance(page, Pull):
        found |= {
            "body": _same(world, page.body or ""),
            "state": state_of(page),
            # whether the report is pushed before or after a pull request is closed depends on time
            "checks": _checks(world, page) if page.state == "open" else [],
            "reviews": [
                {"by": one.author.login, "state": one.state, "reactions": _reactions(world, one)}
                for one in page.reviews
            ],
        }
    return found


def _comment(world: World, comment: Comment) -> Json:
    return {
        "by": _same(world, comment.author.login),
        "body": _same(world, comment.body).split("\n"),
        "minimized": comment.minimized_reason,
        "reactions": _reactions(world, comment),
    }


def _checks(world: World, pull: Pull) -> list[Json]:
    return [
        {
            "conclusion": one.conclusion,
            "status": one.status,
            "name": one.name,
            "title": one.title,
            "summary": _same(world, one.summary or "").split("\n"),
        }
        for one in world.repository.checks(pull.head_sha)
    ]


def _reactions(world: World, thing: Any) -> list[str]:
    return [one.content for one in thing.reactions if one.user.login == world.bot]


def _same(world: World, text: str) -> str:
    text = text.replace(world.bot, "<bot>")
    for pattern, word in _VARIES:
        text = pattern.sub(word, text)
    return text
