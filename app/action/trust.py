"""Is what a loaded state says people have done what GitHub says that they did?

Whoever may push to the repository can write the state ref. So each answer that counts is looked up again: the comment
or review is there, is that person's, says so, was said about this gate, and the person may still say it. What was
frozen with a run the engine holds against its base commit. Nothing is done with a state where any of this fails.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from app.action.state import PREFIX
from app.action.visible import check_visible
from app.action.witness import Witness
from app.github.client import GitHubRepository
from app.github.shapes import Comment, Person
from app.inbound.commands.parser import Parsed, parse
from app.inbound.permissions import Rules, check_decision
from app.inbound.triggers import read_label_key, read_retry_key
from app.surface.applier import is_wanting
from engine.domain.errors import DevflowError
from engine.domain.states import Action, RequestState, RunState
from engine.domain.workflow import Workflow
from engine.facade import Engine
from engine.gates import MIN_SHA
from engine.runner.plan import load_plan
from engine.store import leases, projections, surfaces
from engine.store.approvals import OUTSIDE_PHASE
from engine.store.events import clean_json

_COMMENT = re.compile(r"comment:(\d{1,19}):(\d{1,3})")
_REVIEW = re.compile(r"review:(\d{1,19})")
_VERDICTS = {Action.APPROVE: "approved", Action.REVISE: "changes_requested"}
_RAISES = "budget_exceeded"  # each answer has raised the cap at once, whatever became of the question
# Answers to these counted for nothing, or for nothing but an end.
_WITHOUT_EFFECT = (RequestState.SUPERSEDED, RequestState.EXPIRED, RequestState.ABORTED)


async def verify(
    engine: Engine,
    github: GitHubRepository,
    issue_number: int,
    *,
    cassette: tuple[str, bytes] | None = None,
    only: UUID | None = None,
    is_gone: bool = False,
) -> None:
    """Raise `state_untrusted` with the first thing in an issue's runs that GitHub does not bear out.

    Asked about are the runs that can still do something: those that live, or of which something is to be shown, the
    newest one unless we have told that it is completed, and those that they go on from. With `only`, it is asked about
    that run and those that it goes on from. `cassette` is the recorded agent that new runs are started with here.
    Where the issue `is_gone`, nobody can say any more what people did on it: its runs may only be ended, and shown so.
    Raises faults too.
    """
    rows = await _that_count(engine, await engine.runs_of_issue(github.repository_id, issue_number), only)
    if not rows:
        return
    default_branch = await github.default_branch()
    witness = Witness(github, issue_number, [row["branch"] for row in rows], is_gone=is_gone)
    used: set[str] = set()
    try:
        if is_gone and only is not None:
            raise DevflowError("state_untrusted", "the issue is gone, and with it what people said on it")
        for row in rows:
            is_over = row["state"] == RunState.COMPLETED and not await _is_busy(engine, row)
            if is_over and await witness.ours(f"run/{row['run_id']}/end") is not None:
                continue
            await engine.check_frozen(row["run_id"], default_branch, cassette)
            if not is_gone:
                await _Run(engine, witness, row, used).check()
        await check_visible(engine, witness, rows)
    except DevflowError as error:
        if error.code != "state_untrusted":
            raise
        ref = f"{PREFIX}{issue_number}"
        hint = f"delete the state with `git push origin :{ref}`, then put the label on again"
        raise DevflowError(error.code, error.message, recovery_hint=hint, details=error.details) from error


async def _that_count(engine: Engine, rows: Sequence[RowMapping], only: UUID | None) -> list[RowMapping]:
    """Return the runs that can still do something, and those that they go on from, oldest first."""
    by_id = {row["run_id"]: row for row in rows}
    first = [*rows[:1], *[row for row in rows if await _is_busy(engine, row)]]
    wanted: set[UUID] = set()
    for row in first if only is None else [by_id[only]]:
        following: RowMapping | None = row
        while following is not None and following["run_id"] not in wanted:
            wanted.add(following["run_id"])
            following = by_id.get(following["retry_of"])
    return [row for row in reversed(rows) if row["run_id"] in wanted]


async def _is_busy(engine: Engine, row: RowMapping) -> bool:
    """Whether a run lives, or something of one that has ended is still to be done, or to be shown (again)."""
    if row["ended_at"] is None or leases.needs_worker(row):
        return True
    async with engine.database.read() as tx:
        shown = await projections.get(tx, row["run_id"])
        refused = any(is_wanting(one) for one in await surfaces.of_run(tx, row["run_id"]))
    return refused or (shown is not None and (shown["dirty"] or shown["again_at"] is not None))


class _Run:
    """One run's answers and who asked for it; `used` are the answers that have counted for something already."""

    def __init__(self, engine: Engine, witness: Witness, row: RowMapping, used: set[str]) -> None:
        self.engine = engine
        self.witness = witness
        self.row = row
        self.used = used
        self.options: Mapping[str, Any] = row["options"]
        self.prefixed = self.options.get("commands") == "prefixed"

    async def check(self) -> None:
        plan = await load_plan(self.engine.database, self.row["run_id"])
        metadata = plan.inputs["metadata"]
        await self._requester(metadata)
        requests = await self.engine.requests(self.row["run_id"])
        rules = Rules.of_run(self.options, metadata, only_by_name=True)
        for request in requests:
            if request["state"] in _WITHOUT_EFFECT and request["gate_key"] != _RAISES:
                continue
            asked = _Asked(self, request, requests, plan.workflow, rules)
            for decision in await self.engine.decisions(request["request_id"]):
                await asked.check(decision)

    async def _requester(self, metadata: Mapping[str, Any]) -> None:
        """Raise unless it was this person who put the label on, or asked for the retry."""
        by, by_id = str(metadata.get("requested_by")), metadata.get("requested_by_id")
        key = str(self.row["trigger_key"] or "")
        if (label := read_label_key(key)) is not None:
            name, at = label
            who = await self.witness.labeller(name, at)
            if who is None or (who.id, who.login.casefold()) != (by_id, by.casefold()):
                raise self.refuse(f"GitHub does not know that {by} put the label {name} on")
            return
        retry = read_retry_key(key)
        if retry is None:
            raise self.refuse("it names neither a label nor a comment that started it")
        comment = await self.comment(*retry, by, by_id)
        self.said(comment, retry[1], "retry", None)

    async def comment(self, comment_id: int, number: int, by: str, by_id: int | None) -> Comment:
        """Return a comment of this person, as it was written; each of its commands counts once."""
        what = f"comment {comment_id}"
        found = [one for one in await self.witness.comments() if one.id == comment_id]
        if not found:
            raise self.refuse(f"{what} of {by} is not there, or not on this issue or its pull request")
        (comment,) = found
        if comment.author.is_bot or comment.via_app:
            raise self.refuse(f"{what} was written by an app")
        if comment.author.id != by_id or comment.author.login.casefold() != by.casefold():
            raise self.refuse(f"{what} was written by {comment.author.login}, not by {by}")
        if self.witness.last_edit(comment) is not None:
            raise self.refuse(f"{what} of {by} was edited after it was written")
        self.use(f"comment:{comment_id}:{number}")
        return comment

    def said(self, comment: Comment, number: int, name: str, note: str | None) -> Parsed:
        """Return the command of a comment that has this number; raises where it is another one, or says other things.

        What follows `/retry` is nobody's note.
        """
        for one in parse(comment.body, prefixed=self.prefixed):
            if isinstance(one, Parsed) and one.number == number and one.command.name == name:
                if name != "retry" and clean_json(one.text or None) != note:
                    raise self.refuse(f"comment {comment.id} says something else than is told of it")
                return one
        raise self.refuse(f"comment {comment.id} has no /{name} in that place")

    def use(self, token: str) -> None:
        """Raise where an answer is said to have counted twice."""
        if token in self.used:
            raise self.refuse(f"{token} is said to have answered twice")
        self.used.add(token)

    def refuse(self, why: str) -> DevflowError:
        """Return the refusal of the state."""
        return DevflowError("state_untrusted", f"run {self.row['number']} cannot be trusted: {why}")


class _Asked:
    """One request of a run, and the answers that it is said to have."""

    def __init__(
        self, run: _Run, request: RowMapping, requests: Sequence[RowMapping], workflow: Workflow, rules: Rules
    ) -> None:
        self.run = run
        self.request = request
        self.requests = requests
        self.workflow = workflow
        self.rules = rules

    async def check(self, decision: RowMapping) -> None:
        """Raise unless the person gave this answer to this request, and may."""
        action, token = Action(decision["action"]), str(decision["token"])
        if action is Action.ABORT:
            return
        by, by_id = str(decision["by"]), decision["by_id"]
        if (comment := _COMMENT.fullmatch(token)) is not None:
            found = await self.run.comment(int(comment[1]), int(comment[2]), by, by_id)
            parsed = self.run.said(found, int(comment[2]), str(action), decision["note"])
            if parsed.sha is None:
                await self._came_after(found)
            elif action is Action.APPROVE and not await self._stands_for(parsed.sha):
                raise self.run.refuse(f"{token} approves another commit than gate {self._gate} stands for")
        elif (review := _REVIEW.fullmatch(token)) is not None:
            await self._reviewed(int(review[1]), action, by, by_id)
        else:
            raise self.run.refuse(f"the answer {action} of {by} names no comment and no review")
        await self._may(Person(by_id, by), action)

    async def _reviewed(self, review_id: int, action: Action, by: str, by_id: int | None) -> None:
        what = f"review {review_id}"
        review = await self.run.witness.review(self.run.row["branch"], review_id)
        if review is None:
            raise self.run.refuse(f"{what} of {by} is not there, or not on the run's pull request")
        if review.author.is_bot or review.author.id != by_id or review.author.login.casefold() != by.casefold():
            raise self.run.refuse(f"{what} was given by {review.author.login}, not by {by}")
        if review.state != _VERDICTS.get(action):
            raise self.run.refuse(f"{what} is {review.state.replace('_', ' ')}, which is not {action}")
        if self.request["phase_key"] == OUTSIDE_PHASE:
            raise self.run.refuse(f"{what} cannot answer gate {self._gate}")
        if action is Action.APPROVE and not await self._stands_for(review.commit_id):
            raise self.run.refuse(f"{what} is about another commit than gate {self._gate} stands for")
        self.run.use(f"review:{review_id}")

    async def _may(self, person: Person, action: Action) -> None:
        try:
            check_decision(await self.run.witness.standing(person), action, self.rules)
        except DevflowError as error:
            raise self.run.refuse(f"{person.login} may not {action} now: {error.message}") from error

    async def _came_after(self, answer: Comment) -> None:
        """Raise unless this gate, with its content, was the newest that stood there when the comment was written."""
        for request in reversed(self.requests):
            shown = await self._shown(request)
            if shown is None or (shown.created_at, shown.id) >= (answer.created_at, answer.id):
                continue
            if request["request_id"] != self.request["request_id"]:
                break
            if all(content in shown.body for content in self._content()):
                return
            raise self.run.refuse(f"the comment of gate {self._gate} shows other content than is told to be approved")
        raise self.run.refuse(f"comment {answer.id} was not written after the comment of gate {self._gate}")

    async def _shown(self, request: RowMapping) -> Comment | None:
        key = f"run/{request['run_id']}/gate/{request['request_id']}"
        return await self.run.witness.ours(key)

    def _content(self) -> Iterator[str]:
        return (str(self.request[name]) for name in ("bound_digest", "commit_sha") if self.request[name] is not None)

    async def _stands_for(self, sha: str) -> bool:
        """Tell whether a commit is the request's, or holds just what that is bound to."""
        commit = str(self.request["commit_sha"] or "")
        if not commit or len(sha) < MIN_SHA:
            return False
        if commit.startswith(sha.lower()):
            return await self._is_bound(commit)
        return await self._is_bound(sha.lower())

    async def _is_bound(self, commit: str) -> bool:
        key = self.request["phase_key"]
        if self.request["bound_digest"] is None or self.workflow.is_code_phase(self.workflow.phase(key)):
            return bool(await self.run.witness.tree_of(commit) == self.request["bound_tree"])
        path = f".devflow/runs/{self.run.row['run_id']}/{key}.json"
        return self.request["bound_digest"] in await self.run.witness.digests(commit, [path])

    @property
    def _gate(self) -> str:
        return str(self.request["gate_key"])
