"""Reviews of a run's pull request: approve approves, request changes sends the work back with all that was said.

A review counts for the commit that its writer saw, and only while a question about content is open. What people say in
reviews before and after that is theirs; a run that has ended gets no answer.
"""

from app.github.events import ReviewSubmitted
from app.github.shapes import ReviewComment, ReviewTarget
from app.inbound.context import Context
from app.inbound.handlers.asking import Question, commands_in, question_of, received, run_that_took
from app.inbound.permissions import Standing, check_decision, may_steer, standing
from app.inbound.responses import Handled, Reaction, Reply, Response, ignored
from app.inbound.router import on
from app.surface import replies
from engine.domain.errors import DevflowError, Kind
from engine.domain.states import Action, RunState
from engine.gates import Answer

_ACTIONS = {"approved": Action.APPROVE, "changes_requested": Action.REVISE}
_MAX_FEEDBACK = 50_000


@on(ReviewSubmitted)
async def review_submitted(context: Context, event: ReviewSubmitted) -> Handled:
    """Let a review answer the run's open question."""
    review = event.review
    if review.author.is_bot or event.sender.is_bot:
        return ignored("a bot's review")
    if event.from_fork:
        return ignored("a pull request from a fork")
    token = f"review:{review.id}"
    run = await context.run_of_pull(event.pull.number)
    again = await run_that_took(context, [token]) is not None
    if run is None or (RunState(run["state"]).terminal and not again):
        return ignored("no live run's pull request")
    question = await question_of(context, run)
    action = _ACTIONS.get(review.state)
    if action is None:
        return await _only_comments(context, event, question)
    target = ReviewTarget(review.node_id, event.pull.number)
    who = await received(context, target, event.pull.number, review.author, question.rules.approvers)
    if who is None:
        return ignored("a stranger who was answered often enough")
    try:
        check_decision(who, action, question.rules)
        if question.is_outside and not again:
            return _refused(event, who, replies.review_needs_comment(question.say), "asks for no review")
        if not review.commit_id:
            # the branch was pushed with force meanwhile: without a commit it would count for anything
            raise DevflowError("approval_superseded", "GitHub does not say any more which commit this review saw")
        note, left_out = review.body.strip(), ""
        if action is Action.REVISE:
            inline = await context.github.review_comments(event.pull.number, review.id)
            whole = feedback(review.body, inline)
            note, left_out = whole[:_MAX_FEEDBACK], whole[_MAX_FEEDBACK:]
        answer = Answer(
            action,
            by=review.author.login,
            by_id=review.author.id,
            token=token,
            note=note or None,
            sha=review.commit_id,
        )
        await context.engine.answer(question.run_id, answer)
    except DevflowError as error:
        if error.spec.kind is Kind.RECOVERABLE:
            raise
        return await _explained(context, event, who, await question_of(context, run), error)
    responses: list[Response] = [Reaction(target, "rocket")]
    if left_out:
        text = replies.feedback_cut(review.author.login, _MAX_FEEDBACK)
        responses.append(Reply(f"review/{review.id}", event.pull.number, text))
    return Handled(f"review: {action}", responses)


async def _only_comments(context: Context, event: ReviewSubmitted, question: Question) -> Handled:
    """Explain where commands in a review's text go; ordinary reviews without a verdict get no answer."""
    if not await commands_in(event.review.body, prefixed=question.say.prefixed):
        return ignored("a review without a verdict")
    who = await standing(context.github, event.review.author)
    if not may_steer(who, question.rules.approvers):
        return ignored("a review without a verdict")
    return _refused(event, who, replies.review_commands(question.say), "commands in a review")


async def _explained(
    context: Context, event: ReviewSubmitted, who: Standing, question: Question, error: DevflowError
) -> Handled:
    confused = Reaction(ReviewTarget(event.review.node_id, event.pull.number), "confused")
    steers = may_steer(who, question.rules.approvers)
    key = f"issue/{event.pull.number}/{who.person.id}/denied"
    if not steers and await context.has_replied(key, event.pull.number):
        return Handled(error.code, [confused])
    asks = question.pending is not None
    text = replies.command_refused(error, question.run, asks=asks, say=question.say)
    return _refused(event, who, text, error.code, None if steers else key)


def _refused(event: ReviewSubmitted, who: Standing, text: str, outcome: str, key: str | None = None) -> Handled:
    number = event.pull.number
    body = replies.addressed(who.person.login, text, is_theirs=who.is_known)
    responses: list[Response] = [
        Reaction(ReviewTarget(event.review.node_id, number), "confused"),
        Reply(key or f"review/{event.review.id}", number, body),
    ]
    return Handled(outcome, responses)


def feedback(body: str, inline: list[ReviewComment]) -> str:
    """Return what a reviewer wants changed: the review's text, then its comments with their places."""
    parts = [body.strip()]
    for comment in inline:
        place = comment.path if comment.line is None else f"{comment.path}, line {comment.line}"
        parts.append(f"{place}:\n{comment.body.strip()}")
    return "\n\n".join(filter(None, parts))
