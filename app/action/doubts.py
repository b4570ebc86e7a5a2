"""Did it happen what an event tells of? For events that came with a state, which anybody who may push can write.

What the step itself was started for is GitHub's word. What another step left behind is held against GitHub before a
handler sees it, as far as the handlers would take its word; what they ask GitHub about anyway is let through.
"""

from collections.abc import Collection

from app.action import screening
from app.action.witness import DISMISSED, Witness
from app.github.client import GitHubRepository
from app.github.events import (
    BranchDeleted,
    CommentCreated,
    CommentDeleted,
    CommentEdited,
    IssueClosed,
    IssueDeleted,
    IssueEvent,
    IssueLabeled,
    IssueTransferred,
    IssueUnlabeled,
    PullClosed,
    Pushed,
    RepositoryEvent,
    ReviewSubmitted,
)
from app.github.faults import Gone
from app.inbound.context import Doubts
from engine.store.deliveries import NewDelivery

_ASKED_ABOUT = (BranchDeleted, CommentDeleted, CommentEdited, IssueClosed, IssueUnlabeled, PullClosed, Pushed)


def doubts_of(own: Collection[NewDelivery], issue_number: int) -> Doubts:
    """Return what holds an issue's events against GitHub, but for the step's own ones, which it has from GitHub."""
    known = {delivery.delivery_id: delivery.body for delivery in own}

    async def doubts(delivery_id: str, body: bytes, github: GitHubRepository, event: RepositoryEvent) -> str | None:
        # an id alone proves nothing: whoever wrote the state may have guessed it
        if known.get(delivery_id) == body:
            return None
        # what happened elsewhere has happened, but its answer is given by a step that has its issue's state
        about = await screening.issue_of(github, event)
        return await why_doubted(github, event) if about == issue_number else "it is about another issue"

    return doubts


async def why_doubted(github: GitHubRepository, event: RepositoryEvent) -> str | None:
    """Return why an event cannot be believed, None where GitHub bears it out; raises a fault."""
    match event:
        case CommentCreated():
            return await _comment(github, event)
        case ReviewSubmitted():
            return await _review(github, event)
        case IssueLabeled():
            return await _label(github, event)
        case IssueDeleted() | IssueTransferred():
            return await _gone(github, event)
    return None if isinstance(event, _ASKED_ABOUT) else "no workflow is started for such an event"


async def _comment(github: GitHubRepository, event: CommentCreated) -> str | None:
    witness = Witness(github, event.issue.number)
    told = event.comment
    there = next((one for one in await witness.comments() if one.id == told.id), None)
    if there is None:
        return "the comment is not there"
    if witness.last_edit(there) is not None:
        return "the comment was edited since"
    if there.author.is_bot or there.via_app:
        return "no person wrote the comment"
    same = (there.author.id, there.body, there.created_at) == (told.author.id, told.body, told.created_at)
    return None if same and event.sender.id == there.author.id else "the comment is another one at GitHub"


async def _review(github: GitHubRepository, event: ReviewSubmitted) -> str | None:
    told = event.review
    try:
        there = await github.review(event.pull.number, told.id)
        pull = await github.pull(event.pull.number)
    except Gone:
        return "the review is not there"
    if there.author.is_bot:
        return "no person gave the review"
    if there.state == DISMISSED:
        return "the review was dismissed since"
    same = (there.author.id, there.state, there.body, there.commit_id)
    at_the_pull = pull.head_repository_id == event.pull.head_repository_id
    if same != (told.author.id, told.state, told.body, told.commit_id) or not at_the_pull:
        return "the review is another one at GitHub"
    return None if event.sender.id == there.author.id else "somebody else is said to have given the review"


async def _label(github: GitHubRepository, event: IssueLabeled) -> str | None:
    told = event.issue
    who = await Witness(github, told.number).labeller(event.label, told.updated_at)
    if who is None or who.id != event.sender.id:
        return "somebody else put the label on"
    there = await github.issue(told.number)
    same = (there.id, there.title, there.body, there.author.id) == (told.id, told.title, told.body, told.author.id)
    return None if same else "the issue says something else by now"


async def _gone(github: GitHubRepository, event: IssueEvent) -> str | None:
    try:
        there = await github.issue(event.issue.number)
    except Gone:
        return None
    return "the issue is still there" if there.id == event.issue.id else None
