"""A label that starts a run, and one that is taken off again.

Whoever put it on is asked about at GitHub; the issue is frozen as it was then; the engine starts the run, once for each
labelling. Whatever keeps a run from being started is answered on the issue, but for labels that an issue form put on.
"""

import asyncio
import hashlib
from collections.abc import Sequence

from sqlalchemy import RowMapping

from app.github.events import IssueLabeled, IssueUnlabeled
from app.github.shapes import IssueTarget
from app.inbound.config import ConfigFile, is_ours, read_file, workflow_of
from app.inbound.context import Context
from app.inbound.handlers.endings import end_if_unwanted, end_runs
from app.inbound.permissions import Approvers, may_steer, standing
from app.inbound.responses import Handled, Reaction, Reply, Response, ignored
from app.inbound.router import on
from app.inbound.snapshot import take_snapshot
from app.inbound.triggers import is_of_label, label_key
from app.surface import replies
from app.surface.replies import Say
from engine.domain.config import CommandStyle, OnConflict, RepositoryConfig
from engine.domain.errors import DevflowError, Kind
from engine.domain.events import RunAborted
from engine.domain.states import RunState
from engine.hosted import taken_over
from engine.start import HostedStart, Started, Trigger


@on(IssueLabeled)
async def start(context: Context, event: IssueLabeled) -> Handled:
    """Start a run where the label asks for one and its sender may."""
    if event.sender.is_bot:
        return ignored("a bot put the label on")
    if event.issue.is_pull:
        return ignored("the label is on a pull request")
    target = IssueTarget(event.issue.number)
    if is_ours(event.label):
        context.wish = target
    await context.confirm()
    file = await read_file(context.github, context.config_path)
    if not file.may_mean(event.label):
        return ignored("the label is not ours")
    context.wish = target
    return await _Labelling(context, event).start(file)


@on(IssueUnlabeled)
async def stop(context: Context, event: IssueUnlabeled) -> Handled:
    """End the run that the label started, where the repository wants that."""
    issue = event.issue
    rows = await context.engine.runs_of_issue(context.repository.id, issue.number)
    meant = [row for row in rows if is_of_label(_origin(row, rows)["trigger_key"], issue.id, event.label)]
    meant = [row for row in meant if row["options"].get("abort_on_unlabel") and not RunState(row["state"]).terminal]
    if not meant:
        return ignored("no run depends on the label")
    if event.label.casefold() in {label.casefold() for label in (await context.github.issue(issue.number)).labels}:
        return ignored("the label is on again")
    return await end_runs(context, meant, event.sender, f"the label {event.label} was taken off")


def _origin(row: RowMapping, rows: Sequence[RowMapping]) -> RowMapping:
    """Return the run that a label started, of which this one is a retry, or a retry's retry."""
    by_id = {other["run_id"]: other for other in rows}
    while row["retry_of"] in by_id:
        row = by_id[row["retry_of"]]
    return row


class _Labelling:
    """One putting-on of a label that starts runs."""

    def __init__(self, context: Context, event: IssueLabeled) -> None:
        self.context = context
        self.event = event
        self.number = event.issue.number
        self.target = IssueTarget(self.number)
        self.login = event.sender.login
        self.key = label_key(event.issue.id, event.label, event.issue.updated_at)

    async def start(self, file: ConfigFile) -> Handled:
        who = await standing(self.context.github, self.event.sender)
        try:
            config = file.parse()
        except DevflowError as error:
            if not who.may_triage:
                return ignored(f"{self.login} may not put labels on")
            await self.context.acknowledge(self.target)
            return self._refused(replies.start_refused(self.login, error), error.code)
        workflow = workflow_of(self.event.label, config)
        if workflow is None:
            return ignored("the label is not ours")
        if not may_steer(who, Approvers(config.approvers)):
            return await self._denied(config, by_hand=who.may_triage)
        issue = await self.context.github.issue(self.number)
        known = await self._known()
        if self.event.label.casefold() not in {label.casefold() for label in issue.labels} and known is None:
            return ignored("the label is off again")
        await self.context.acknowledge(self.target)
        if issue.state != "open" and known is None:
            return self._refused(replies.issue_closed(self.login), "the issue is closed")
        try:
            ids = {} if known is not None else await self._ids_of(config.approvers)
            started = await self._start(workflow or self.context.house.workflow, ids)
        except DevflowError as error:
            return await self._not_started(error, Say(config.commands is CommandStyle.PREFIXED))
        handled = await self._started(started, config)
        # what ends runs may have come while this one was being made, and have found none
        wanted = self.event.label if config.abort_on_unlabel else None
        await end_if_unwanted(self.context, started.run_id, self.number, wanted)
        return handled

    async def _ids_of(self, logins: Sequence[str]) -> dict[str, int]:
        """Return whose these logins are now; those that nobody has are left out."""
        found = await asyncio.gather(*(self.context.github.user_id(login) for login in logins))
        return {login: user_id for login, user_id in zip(logins, found, strict=True) if user_id is not None}

    async def _start(self, workflow: str | None, approver_ids: dict[str, int]) -> Started:
        trigger = Trigger(
            issue_number=self.number,
            snapshot=await take_snapshot(self.context.github, self.event.issue),
            key=self.key,
            by=self.login,
            by_id=self.event.sender.id,
        )
        hosted, cassette = self.context.hosted, self.context.house.cassette
        return await self.context.engine.start_hosted(
            HostedStart(
                repository=hosted, trigger=trigger, workflow=workflow, cassette=cassette, approver_ids=approver_ids
            )
        )

    async def _known(self) -> RowMapping | None:
        rows = await self.context.engine.runs_of_issue(self.context.repository.id, self.number)
        return next((row for row in rows if row["trigger_key"] == self.key), None)

    async def _started(self, started: Started, config: RepositoryConfig) -> Handled:
        rocket = Reaction(self.target, "rocket")
        rows = await self.context.engine.runs_of_issue(self.context.repository.id, self.number)
        new = next(row for row in rows if row["run_id"] == started.run_id)
        before = await self._live_before([row for row in reversed(rows) if row["number"] < new["number"]], new)
        outcome = f"run {new['number']} of {started.workflow}"
        if not before:
            return Handled(outcome, [rocket])
        if config.on_conflict is OnConflict.QUEUE:
            text = replies.queued(self.login, new, before[-1])
        else:
            text = replies.took_over(self.login, new, before, discarded=config.on_conflict is OnConflict.ROLLBACK)
        return Handled(outcome, [rocket, self._reply(text)])

    async def _live_before(self, earlier: list[RowMapping], new: RowMapping) -> list[RowMapping]:
        """Return which runs were live when the new one was made, by what is stored: a repetition says the same."""
        found = []
        for row in earlier:
            if row["ended_at"] is None or row["ended_at"] >= new["created_at"]:
                found.append(row)
            elif row is earlier[-1] or row["ended_at"] >= earlier[-1]["created_at"]:
                events = await self.context.engine.events(row["run_id"])
                notes = [event["payload"]["note"] for event in events if event["type"] == RunAborted.type]
                found += [row] if taken_over(self.login) in notes else []
        return found

    async def _not_started(self, error: DevflowError, say: Say) -> Handled:
        if error.spec.kind is Kind.RECOVERABLE:
            raise error
        if error.code != "run_in_flight":
            return self._refused(replies.start_refused(self.login, error), error.code)
        live = await self.context.engine.run_of_issue(self.context.repository.id, self.number)
        if live is None:
            raise error
        return self._refused(replies.run_in_flight(self.login, live, say), error.code)

    async def _denied(self, config: RepositoryConfig, *, by_hand: bool) -> Handled:
        if not by_hand:
            # an issue form puts labels on in the name of whoever fills it in: they did not ask for a run
            return ignored(f"{self.login} may not start runs, and did not put the label on by hand")
        await self.context.acknowledge(self.target)
        confused = Reaction(self.target, "confused")
        key = f"issue/{self.number}/{self.event.sender.id}/denied"
        if await self.context.has_replied(key, self.number):
            return Handled("permission_denied", [confused])
        text = replies.start_denied(self.login, config.approvers)
        return Handled("permission_denied", [confused, Reply(key, self.number, text)])

    def _refused(self, text: str, outcome: str) -> Handled:
        responses: list[Response] = [Reaction(self.target, "confused"), self._reply(text)]
        return Handled(outcome, responses)

    def _reply(self, text: str) -> Reply:
        # several labels may be put on within one second, and each is answered
        label = hashlib.sha256(self.event.label.casefold().encode()).hexdigest()[:8]
        at = self.event.issue.updated_at
        return Reply(f"label/{self.event.issue.id}/{at:%Y%m%dT%H%M%SZ}/{label}", self.number, text)
