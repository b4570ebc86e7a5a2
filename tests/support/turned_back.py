"""Time turned back for a stage: all rows and what people see of issues are put back as they were at a moment.

So a piece of work can be done again and again from the same beginning, at the cost of a few statements.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from engine.store.columns import metadata
from tests.github_double import Pull
from tests.support.shown import Stage

_TABLES = [table.name for table in metadata.sorted_tables if table.name != "workers"]


@dataclass
class Moment:
    """How a stage was when `remember` was called."""

    on: Stage
    lists: list[tuple[list[Any], list[Any]]]

    async def again(self) -> None:
        """Make everything as it was; what was made meanwhile is gone."""
        async with self.on.database.transaction() as tx:
            for name in reversed(_TABLES):
                await tx.execute(text(f"DELETE FROM {name}"))
            for name in _TABLES:
                await tx.execute(text(f"INSERT INTO {name} OVERRIDING SYSTEM VALUE SELECT * FROM before.{name}"))
        for living, kept in self.lists:
            living[:] = kept


async def remember(on: Stage) -> Moment:
    """Keep how everything is now, instead of what was kept before."""
    async with on.database.transaction() as tx:
        await tx.execute(text("DROP SCHEMA IF EXISTS before CASCADE"))
        await tx.execute(text("CREATE SCHEMA before"))
        for name in _TABLES:
            await tx.execute(text(f"CREATE TABLE before.{name} AS TABLE {name}"))
    living: list[list[Any]] = []
    for page in on.hub.numbered.values():
        living += [page._comments, page.reactions, *(comment.reactions for comment in page._comments)]
        if isinstance(page, Pull):
            living += [review.reactions for review in page.reviews]
    return Moment(on, [(one, list(one)) for one in living])
