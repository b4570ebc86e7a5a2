"""Comment commands: read from a new comment, carried out in their order, answered with an emoji or one reply.

The first command that is refused ends the comment's: what stands below it was written for another case. Prose gets no
answer, nor does an edited comment, a bot's, or one that an app wrote.
"""

import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field

from sqlalchemy import RowMapping

from app.github.events import CommentCreated, CommentDeleted, CommentEdited
from app.github.faults import Refused
from app.github.shapes import CommentTarget
from app.inbound.commands.parser import NearMiss, Parsed
from app.inbound.commands.registry import Who, table
from app.inbound.context import Context
from app.inbound.handlers.asking import Question, commands_in, question_of, received, run_that_took
from app.inbound.handlers.steering import STEPS, Order, tokens
from app.inbound.permissions import Approvers, Standing, denied, may_steer
from app.inbound.responses import Handled, Reaction, Reply, Response, ignored
from app.inbound.router import on
from app.inbound.triggers import came_after
from app.surface import replies
from app.surface.render import marker_of
from app.surface.replies import Say
from engine.domain.config import CommandStyle, RepositoryConfig
from engine.domain.errors import DevflowError, Kind

_OFTEN = "a stranger who was answered often enough"
_log = logging.getLogger(__name__)


@on(CommentCreated)
async def comment_created(context: Context, event: CommentCreated) -> Handled:
    """Carry out the commands of a new comment."""
    comment = event.comment
    if comment.author.is_bot or event.sender.is_bot or comment.via_app or marker_of(comment.body):
        return ignored("no person wrote it")
    found = await commands_in(comment.body)
    if not found:
        return ignored("no command in it")
    # when it comes again, the issue may have another run by now
    run = await run_that_took(context, tokens(comment.id)) or await _run_meant(context, event)
    if run is None:
        return await _without_run(context, event)
    question = await question_of(context, run)
    if question.say.prefixed:
        found = await commands_in(comment.body, prefixed=True)
    if not found:
        return ignored("commands need the prefix here")
    target, approvers = CommentTarget(comment.id), question.rules.approvers
    who = await received(context, target, event.issue.number, comment.author, approvers)
    if who is None:
        return ignored(_OFTEN)
    return await _Conversation(context, event, who, question.say).carry_out(found, question)


@on(CommentEdited)
async def comment_edited(context: Context, event: CommentEdited) -> Handled:
    """Put a comment of ours right that somebody else has changed; commands in an edited comment never count."""
    return await _ours_was_touched(context, event)


@on(CommentDeleted)
async def comment_deleted(context: Context, event: CommentDeleted) -> Handled:
    """Have a comment of ours that somebody deleted looked at; what it had decided stands."""
    return await _ours_was_touched(context, event)


async def _ours_was_touched(context: Context, event: CommentEdited | CommentDeleted) -> Handled:
    author = event.comment.author
    if event.sender.id == author.id or not await context.github.is_ours(author):
        return ignored("no comment of ours was touched by others")
    await context.house.projector.unsettle(context.repository.id, event.comment.id)
    return Handled("a comment in our name was touched; if it is ours, it is looked at")


async def _run_meant(context: Context, event: CommentCreated) -> RowMapping | None:
    if event.is_pull:
        return await context.run_of_pull(event.issue.number)
    comment = event.comment
    rows = await context.engine.runs_of_issue(context.repository.id, event.issue.number)
    # a comment that arrives late must not reach a run that its writer knew nothing of
    there = [row for row in rows if not came_after(row["trigger_key"], comment.id, comment.created_at)]
    live = [row for row in there if row["ended_at"] is None]
    return min(live, key=lambda row: (row["started_at"] is None, row["number"]), default=next(iter(there), None))


async def _without_run(context: Context, event: CommentCreated) -> Handled:
    """Answer a command where there is no run; in a pull request of people's own it may be another bot's."""
    config = await config_or_defaults(context.config())
    say = Say(config.commands is CommandStyle.PREFIXED)
    found = await commands_without_run(event, config)
    if not found:
        return ignored("no command of ours, and no run")
    target, approvers = CommentTarget(event.comment.id), Approvers(config.approvers)
    who = await received(context, target, event.issue.number, event.comment.author, approvers)
    if who is None:
        return ignored(_OFTEN)
    talk = _Conversation(context, event, who, say, approvers)
    first = found[0]
    if isinstance(first, NearMiss):
        return await talk.refuse(replies.near_miss(first.typed, first.suggestion, say), "near miss")
    if first.command.name == "help":
        return await talk.answer(replies.help_text(table(prefixed=say.prefixed), config.approvers))
    return await talk.refuse(replies.no_run(say), "no run")


async def config_or_defaults(reading: Awaitable[RepositoryConfig]) -> RepositoryConfig:
    """Return the configuration that is being read, the defaults where it is broken."""
    try:
        return await reading
    except (DevflowError, Refused) as error:
        _log.info("the configuration is broken: %s", error)
        return RepositoryConfig()


async def commands_without_run(event: CommentCreated, config: RepositoryConfig) -> list[Parsed | NearMiss]:
    """Return the commands of a comment that is answered though there is no run; none where it may be another bot's."""
    prefixed = config.commands is CommandStyle.PREFIXED or event.is_pull
    found = await commands_in(event.comment.body, prefixed=prefixed)
    return found if any(isinstance(one, Parsed) or _has_prefix(one) for one in found) else []


def _has_prefix(one: Parsed | NearMiss) -> bool:
    return isinstance(one, NearMiss) and one.typed.startswith("/devflow")


@dataclass
class _Conversation:
    """The answers to one comment: what was refused, what was said."""

    context: Context
    event: CommentCreated
    who: Standing
    say: Say
    approvers: Approvers = field(default_factory=Approvers)
    said: list[str] = field(default_factory=list)

    async def carry_out(self, found: list[Parsed | NearMiss], question: Question) -> Handled:
        self.approvers = question.rules.approvers
        done: list[str] = []
        for index, one in enumerate(found):
            left = [later.command.name for later in found[index + 1 :] if isinstance(later, Parsed)]
            if isinstance(one, NearMiss):
                return await self.refuse(replies.near_miss(one.typed, one.suggestion, self.say), "near miss", left)
            try:
                await self._step(one, question)
            except DevflowError as error:
                if error.spec.kind is Kind.RECOVERABLE and error.code != "worker_already_running":
                    raise
                question = await question_of(self.context, question.run)
                return await self.refuse(self._why(error, question), f"{one.command.name}: {error.code}", left)
            done.append(one.command.name)
            question = await question_of(self.context, question.run)
        if self.said and not self._is_heard:
            return await self.answer("\n\n".join(self.said))
        rocket = Reaction(CommentTarget(self.event.comment.id), "rocket")
        return Handled(", ".join(done), [rocket, *self._replies("\n\n".join(self.said))])

    async def refuse(self, text: str, outcome: str, left: list[str] | None = None) -> Handled:
        """Return a refusal: always with an emoji; with words too, but to strangers only once an issue."""
        confused = Reaction(CommentTarget(self.event.comment.id), "confused")
        if not self._is_heard and await self.context.has_replied(self._key, self.event.issue.number):
            return Handled(outcome, [confused])
        parts = [*self.said, text, *([replies.not_carried_out(left, self.say)] if left else [])]
        return Handled(outcome, [confused, *self._replies("\n\n".join(parts))])

    async def answer(self, text: str) -> Handled:
        """Return an answer to somebody who may not steer, or where there is no run."""
        if not self._is_heard and await self.context.has_replied(self._key, self.event.issue.number):
            return Handled("answered before")
        rocket = Reaction(CommentTarget(self.event.comment.id), "rocket")
        return Handled("answered", [rocket, *self._replies(text)])

    async def _step(self, parsed: Parsed, question: Question) -> None:
        if parsed.command.who is Who.DECIDERS and not may_steer(self.who, question.rules.approvers):
            raise denied(question.rules.approvers)
        text = await STEPS[parsed.command.name](Order(self.context, self.event, parsed, self.who, question))
        if text is not None and text not in self.said:
            self.said.append(text)

    def _why(self, error: DevflowError, question: Question) -> str:
        if error.details.get("came_before"):
            return replies.came_before(self.say)
        if error.details.get("closed_issue"):
            return replies.closed_issue_retry()
        return replies.command_refused(error, question.run, asks=question.pending is not None, say=self.say)

    def _replies(self, text: str) -> list[Response]:
        if not text:
            return []
        body = replies.addressed(self.who.person.login, text, is_theirs=self.who.is_known)
        return [Reply(self._key, self.event.issue.number, body)]

    @property
    def _is_heard(self) -> bool:
        return may_steer(self.who, self.approvers)

    @property
    def _key(self) -> str:
        if self._is_heard:
            return f"comment/{self.event.comment.id}"
        return f"issue/{self.event.issue.number}/{self.who.person.id}/denied"
