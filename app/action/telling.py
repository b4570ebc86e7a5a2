"""The log of a step while it works: the events of the issue's runs, as lines, as they come."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from app.action.outcome import Outcome
from app.action.summary import log_lines
from app.action.workflow_commands import RunnerLog
from app.local import timeline
from engine.domain.errors import DevflowError
from engine.facade import Engine

_POLL_SECONDS = 0.5


class Teller:
    """Prints what happens to runs; what was printed once is not printed again."""

    def __init__(self, log: RunnerLog) -> None:
        self._log = log
        self._seen: defaultdict[UUID, int] = defaultdict(int)

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Print what is told inside under a title."""
        with self._log.group(title):
            yield

    def tell(self, outcome: Outcome) -> None:
        """Print what became of one issue among several."""
        self._log.say(log_lines(outcome))
        for error in outcome.errors:
            self._log.show_error(error)

    async def skip(self, engine: Engine, repository_id: int, issue_number: int) -> None:
        """Leave out what happened before this step."""
        for row in await engine.runs_of_issue(repository_id, issue_number):
            self._seen[row["run_id"]] = row["event_seq"]

    async def follow(self, engine: Engine, repository_id: int, issue_number: int) -> None:
        """Print events until cancelled; a database that does not answer is not waited for here."""
        while True:
            try:
                await self.tell_rest(engine, repository_id, issue_number)
            except DevflowError as error:
                self._log.say(f"(no news: {error.message})")
            await asyncio.sleep(_POLL_SECONDS)

    async def tell_rest(self, engine: Engine, repository_id: int, issue_number: int) -> None:
        """Print what has happened and was not printed yet."""
        for row in reversed(await engine.runs_of_issue(repository_id, issue_number)):
            if row["event_seq"] <= self._seen[row["run_id"]]:
                continue
            for event in await engine.events(row["run_id"], self._seen[row["run_id"]]):
                self._seen[row["run_id"]] = event["seq"]
                line = timeline.line(event, row["created_at"])
                if line is not None:
                    self._log.say(f"run {row['number']} {line}")
