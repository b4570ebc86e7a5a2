"""What each comment command does: a function a command, by the names of the registry.

Each returns the text of a reply, or None where an emoji says enough. A refusal is raised, as the engine raises it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.github.events import CommentCreated
from app.inbound.commands.parser import MAX_COMMANDS, Parsed
from app.inbound.commands.registry import table
from app.inbound.context import Context
from app.inbound.handlers.asking import Question, run_that_took, seen_by
from app.inbound.handlers.endings import end_if_unwanted
from app.inbound.permissions import Standing, check_decision
from app.surface import replies
from engine.domain.errors import DevflowError
from engine.domain.states import Action, PhaseState
from engine.gates import Answer
from engine.store import surfaces


@dataclass(frozen=True)
class Order:
    """One command of a comment, who gave it, and the run that it is about."""

    context: Context
    event: CommentCreated
    parsed: Parsed
    who: Standing
    question: Question

    @property
    def token(self) -> str:
        """What makes a repetition of the command harmless."""
        return _token(self.event.comment.id, self.parsed.number)

    @property
    def login(self) -> str:
        """Who gave it."""
        return self.who.person.login


Step = Callable[[Order], Awaitable[str | None]]


def tokens(comment_id: int) -> list[str]:
    """Return the tokens of all commands that a comment can have."""
    return [_token(comment_id, number) for number in range(1, MAX_COMMANDS + 1)]


def _token(comment_id: int, number: int) -> str:
    return f"comment:{comment_id}:{number}"


def _answer(action: Action) -> Step:
    async def answer(order: Order) -> str | None:
        check_decision(order.who, action, order.question.rules)
        comment, parsed = order.event.comment, order.parsed
        seen = await seen_by(order.context, order.question, comment.created_at, comment.id)
        if order.question.pending is not None and seen is None and parsed.sha is None:
            raise DevflowError("approval_superseded", "", details={"came_before": True})
        given = Answer(
            action,
            by=order.login,
            by_id=order.who.person.id,
            token=order.token,
            note=parsed.text or None,
            sha=parsed.sha,
            request_id=seen,
        )
        await order.context.engine.answer(order.question.run_id, given)
        return None

    return answer


async def _abort(order: Order) -> str | None:
    check_decision(order.who, Action.ABORT, order.question.rules)
    note = order.parsed.text or None
    await order.context.engine.abort(
        order.question.run_id, order.login, note, token=order.token, by_id=order.who.person.id
    )
    return None


async def _pause(order: Order) -> str | None:
    await order.context.engine.pause(order.question.run_id, order.login, order.parsed.text or None, token=order.token)
    return None


async def _resume(order: Order) -> str | None:
    await order.context.engine.resume(order.question.run_id, order.login, token=order.token)
    return None


async def _retry(order: Order) -> str | None:
    context, run = order.context, order.question.run
    again = await run_that_took(context, [order.token]) is not None
    # the event may be an old one: what counts is whether the issue is open now
    if not again and (await context.github.issue(run["issue_number"])).state != "open":
        raise DevflowError("illegal_transition", "", details={"closed_issue": True})
    await context.house.check_run(run["run_id"])
    made = await context.engine.retry(run["run_id"], order.login, token=order.token, by_id=order.who.person.id)
    await end_if_unwanted(context, made, run["issue_number"])
    return None


async def _status(order: Order) -> str | None:
    run, context = order.question.run, order.context
    details = await context.engine.details(order.question.run_id)
    ended = (PhaseState.COMPLETED, PhaseState.SKIPPED)
    phase = next((row["key"] for row in details["phases"] if row["state"] not in ended), None)
    async with context.house.database.read() as tx:
        pull = await surfaces.get(tx, context.repository.id, f"run/{order.question.run_id}/pull")
    url = context.github.pull_url(int(pull["external_id"])) if pull is not None and pull["external_id"] else None
    asks = order.question.pending is not None
    return replies.status(run, phase=phase, asks=asks, pull_url=url, say=order.question.say)


async def _help(order: Order) -> str | None:
    say = order.question.say
    return replies.help_text(table(prefixed=say.prefixed), order.question.rules.approvers.names)


STEPS: dict[str, Step] = {
    "approve": _answer(Action.APPROVE),
    "reject": _answer(Action.REJECT),
    "revise": _answer(Action.REVISE),
    "abort": _abort,
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "status": _status,
    "help": _help,
}
