"""One issue in a step: taken in hand, its event handled, its runs driven until they rest, and let go again."""

import asyncio
import logging
from uuid import UUID

from app.action import missed
from app.action.closings import Closings, find_closings
from app.action.doubts import doubts_of
from app.action.driving import Drive
from app.action.keeper import DatabaseKeeps, Keeper, Keeping, NothingIsKept
from app.action.opening import Workshop
from app.action.outcome import Outcome
from app.action.packing import IssueRows
from app.action.trust import verify
from app.action.unhandled import unhandled
from app.github.by_token import JOBS_OWN
from app.github.client import GitHubRepository
from app.github.faults import HostFault, Refused
from app.inbound.config import read_config
from app.inbound.context import House, no_check, no_doubts
from app.inbound.inbox import Inbox
from app.surface.projector import Projector
from app.surface.reading import read_view
from engine.domain.errors import DevflowError, Fenced
from engine.presence import Presence
from engine.store.deliveries import NewDelivery
from engine.workspace.mirror import Mirror
from engine.workspace.rules import RUNS_FOLDER
from engine.workspace.state_ref import StateMoved

_BROKEN = "config_invalid"
_log = logging.getLogger(__name__)


class IssueStep:
    """The work on one issue, for `delivery` (None: whatever is left to do).

    Without `keeps` it is only answered: there is no run, none begins, and nothing of it is kept.
    """

    def __init__(
        self,
        shop: Workshop,
        github: GitHubRepository,
        issue_number: int,
        delivery: NewDelivery | None,
        *,
        keeps: bool = True,
    ) -> None:
        self._shop = shop
        self._github = github
        self._issue_number = issue_number
        self._delivery = delivery
        self._keeps = keeps
        self._teller = shop.given.teller
        self._own: list[NewDelivery] = []
        self._mine: set[str] = set()
        self._closings = Closings()

    async def run(self, stop: asyncio.Event) -> Outcome:
        """Do all of it; a set `stop` ends it early, with everything kept.

        Raises what keeps the step from its work: a state that cannot be trusted, GitHub out of reach.
        """
        if self._shop.given.is_shared:
            rows = self._rows(conversations=True)
            self._closings = await find_closings(self._github, rows)
            return await self._work(DatabaseKeeps(), rows, stop)
        if not self._keeps:
            return await self._work(NothingIsKept(), self._rows(conversations=False), stop)
        rows = self._rows(conversations=await self._may_show_conversations())
        mirror = await Mirror.open(self._shop.settings.mirrors, self._github.repository_id, await self._shop.remote())
        environment = self._shop.given.environment
        keeper = Keeper(
            rows,
            mirror,
            self._shop.clock,
            self._shop.settings,
            url=environment.run_url,
            attempt=environment.run_attempt,
        )
        found = await keeper.take(self._delivery)
        if found is None:
            return self._left("Another step holds the issue and goes on with it.")
        try:
            self._closings = await find_closings(self._github, rows)
            await self._verify()
        except (DevflowError, HostFault):
            await keeper.give_back(found)
            raise
        try:
            outcome = await self._work(keeper, rows, stop)
            while not await keeper.release():
                outcome = await self._work(keeper, rows, stop)
        except Fenced as lost:
            return self._left(f"This step has stopped: {lost.message}.")
        except BaseException:
            # whatever ends the step, the next one need not wait until this one counts as lost
            try:
                await keeper.release()
            except (DevflowError, StateMoved) as error:
                _log.warning("the issue could not be let go: %s", error)
            raise
        return outcome

    async def _verify(self, run_id: UUID | None = None) -> None:
        """Hold the state that was taken in hand, or one run of it, against GitHub."""
        cassette = self._shop.given.cassette
        is_gone = self._closings.is_gone
        await verify(
            self._shop.engine(), self._github, self._issue_number, cassette=cassette, only=run_id, is_gone=is_gone
        )

    async def _may_show_conversations(self) -> bool:
        """Tell whether what models said may lie in the repository; where the configuration is broken, it may not."""
        if (await self._github.facts()).private:
            return True
        try:
            config = await read_config(self._github, self._shop.settings.config_path)
        except (DevflowError, Refused):
            return False
        return config.publish_conversations

    async def _mistake(self) -> DevflowError:
        """Return what is wrong with the repository's files, with its line where it is the configuration's."""
        try:
            await read_config(self._github, self._shop.settings.config_path)
        except DevflowError as error:
            return error
        except Refused:
            pass  # then its line is not known here
        return DevflowError(_BROKEN, "a file of the repository has a mistake; the answer on the issue says which")

    def _rows(self, *, conversations: bool) -> IssueRows:
        return IssueRows(
            self._shop.engine(), self._github.repository_id, self._issue_number, conversations=conversations
        )

    def _left(self, why: str) -> Outcome:
        _log.warning("%s", why)
        return Outcome(why, issue_number=self._issue_number)

    async def _work(self, keeper: Keeping, rows: IssueRows, stop: asyncio.Event) -> Outcome:
        await self._teller.skip(rows.engine, rows.repository_id, rows.issue_number)
        events = [] if self._closings.is_gone else await missed.find(self._github, rows)
        if self._delivery is not None:
            events = [*(event for event in events if event.delivery_id != self._delivery.delivery_id), self._delivery]
        events = [*self._closings.events, *events]
        await rows.take_in(events)
        self._own = events
        left = await unhandled(rows.engine.database, self._github) if self._shop.given.is_shared else {}
        self._mine = {delivery_id for delivery_id, number in left.items() if number == self._issue_number}
        with self._teller.group(f"What happens on issue {self._issue_number}"):
            await self._drive(keeper, rows, stop)
            await self._teller.tell_rest(rows.engine, rows.repository_id, rows.issue_number)
        return await self._outcome(rows, stopped=stop.is_set())

    async def _drive(self, keeper: Keeping, rows: IssueRows, stop: asyncio.Event) -> None:
        shop, engine = self._shop, self._shop.engine(keeper.keep)
        async with Presence(shop.database, engine.settings) as presence:
            who, dead_after = presence.worker_id, engine.settings.worker_dead_after_seconds
            projector = Projector(
                engine,
                shop.github,
                shop.clock,
                worker_id=who,
                dead_after_seconds=dead_after,
                keep=keeper.keep,
                unsure_since=keeper.unsure_since,
            )
            house = House(
                engine,
                shop.github,
                shop.clock,
                projector,
                shop.given.cassette,
                workflow=shop.given.environment.workflow,
                keep=keeper.keep,
                # in a database of its own there are also events that came with the state
                doubts=no_doubts if shop.given.is_shared else doubts_of(self._own, self._issue_number),
                check_run=no_check if shop.given.is_shared else self._verify,
                unsure_since=keeper.unsure_since,
                ids_are_proven=shop.given.is_shared,
            )
            for row in await engine.runs_of_issue(rows.repository_id, rows.issue_number):
                await projector.reconsider(row["run_id"])
            inbox = Inbox(house, who, dead_after)
            await self._close(inbox, rows)
            drive = Drive(
                engine,
                inbox,
                projector,
                shop.clock,
                repository_id=rows.repository_id,
                issue_number=rows.issue_number,
                shared=self._mine if shop.given.is_shared else None,
            )
            ended = asyncio.Event()
            tasks = (
                asyncio.create_task(drive.run(stop), name="driving"),
                asyncio.create_task(keeper.run(ended), name="keeping"),
                asyncio.create_task(self._teller.follow(engine, rows.repository_id, rows.issue_number), name="telling"),
            )
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                ended.set()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, inbox: Inbox, rows: IssueRows) -> None:
        """End what has lost its purpose, before anybody works on it or answers it."""
        for event in self._closings.events:
            await inbox.handle(event.delivery_id)
        if self._closings.is_gone and await rows.have_live_run():
            # nobody can be asked any more who may do what in it
            raise DevflowError("github_unavailable", "the issue is gone, and its run could not be ended now")

    async def _outcome(self, rows: IssueRows, *, stopped: bool) -> Outcome:
        became = await rows.outcome_of(self._delivery.delivery_id) if self._delivery else None
        said = f"What came of the event: {became}." if became else ""
        if stopped:
            said = f"{said} The job was cancelled; the next event goes on from here.".strip()
        run = await rows.engine.run_of_issue(rows.repository_id, rows.issue_number)
        wrong = [await self._mistake()] if became == _BROKEN else []
        wrong += self._shop.github.refusals.errors
        first, others = next(iter(wrong), None), tuple(wrong[1:])
        if run is None or became == _BROKEN:
            return Outcome(said, issue_number=self._issue_number, error=first, other_errors=others)
        run_id: UUID = run["run_id"]
        report = None
        if run["final_report_path"] is not None and run["pushed_sha"] is not None:
            report = self._github.blob_url(run["branch"], f"{RUNS_FOLDER}/{run_id}/report.md")
        return Outcome(
            said,
            issue_number=self._issue_number,
            error=first,
            other_errors=others,
            view=await read_view(rows.engine.database, run_id),
            links=self._github,
            pull_number=await rows.pull_number(run_id),
            report=report,
            starts_no_checks=await self._shop.github.bot_login() == JOBS_OWN,
        )
