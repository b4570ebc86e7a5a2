"""Events in a database that steps share which were stored and not handled, each with the issue that it is about.

A step that was lost leaves its event behind, and perhaps nothing else: of a label not even a run. Whoever still lives
keeps what they have in hand, because nobody else can claim it.
"""

from app.action import screening
from app.github.client import GitHubRepository
from app.github.event_types import RepositoryEvent
from app.github.events import Unreadable, parse
from engine.store import deliveries
from engine.store.database import Database


async def unhandled(database: Database, github: GitHubRepository) -> dict[str, int]:
    """Return the issues of the repository's events that are still to be handled, by the events' ids; oldest first.

    Raises a fault.
    """
    async with database.read() as tx:
        rows = await deliveries.unfinished(tx)
    found: dict[str, int] = {}
    for row in rows:
        try:
            event = parse(row["event"], bytes(row["body"]))
        except Unreadable:
            continue
        if not isinstance(event, RepositoryEvent) or event.repository.id != github.repository_id:
            continue
        number = await screening.issue_of(github, event)
        if number is not None:
            found[row["delivery_id"]] = number
    return found
