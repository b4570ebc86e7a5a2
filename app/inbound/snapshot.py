"""The frozen trigger: an issue with its comments as they stood when the label was put on.

Title and body come from the delivery itself, so what somebody edits between the label and its handling is not in.
Comments come from GitHub; later ones, and those that were changed later, are left out. What bots wrote is left out as
well, ours included: a run does not read its own reports.
"""

from datetime import datetime

from app.github.client import GitHubRepository
from app.github.events import IssueRef
from app.github.shapes import Comment, Person, Role
from app.inbound.permissions import standing
from app.surface.render import marker_of
from engine.domain.envelope import FrozenTrigger, TriggerComment

MAX_COMMENTS = 50
MAX_CHARACTERS = 100_000
_CHANGED = "(This comment was changed after the run was triggered, and is left out.)"


async def take_snapshot(github: GitHubRepository, issue: IssueRef) -> FrozenTrigger:
    """Return the issue and its comments, each with its author's permission, asked once a person.

    Of long discussions the newest comments are kept, and the others counted.
    """
    people = [comment for comment in await github.comments(issue.number) if _is_of_a_person(comment)]
    before = [comment for comment in people if comment.created_at <= issue.updated_at]
    kept = _newest(before, MAX_CHARACTERS - len(issue.body))
    roles: dict[int, Role] = {}

    async def role(person: Person) -> Role:
        if person.id not in roles:
            found = await standing(github, person)
            roles[person.id] = found.permission.role if found.is_known else "none"
        return roles[person.id]

    return FrozenTrigger(
        title=issue.title,
        body=issue.body,
        author=issue.author.login,
        author_id=issue.author.id,
        permission=await role(issue.author),
        comments=tuple([_frozen(comment, await role(comment.author), issue.updated_at) for comment in kept]),
        omitted_comments=len(before) - len(kept),
    )


def _is_of_a_person(comment: Comment) -> bool:
    return not (comment.author.is_bot or comment.via_app or marker_of(comment.body))


def _newest(comments: list[Comment], room: int) -> list[Comment]:
    kept: list[Comment] = []
    for comment in reversed(comments[-MAX_COMMENTS:]):
        room -= len(comment.body)
        if room < 0:
            break
        kept.append(comment)
    return kept[::-1]


def _frozen(comment: Comment, permission: Role, at: datetime) -> TriggerComment:
    return TriggerComment(
        author=comment.author.login,
        author_id=comment.author.id,
        permission=permission,
        comment_id=comment.id,
        created_at=comment.created_at.isoformat(),
        body=_CHANGED if comment.updated_at > at else comment.body,
    )
