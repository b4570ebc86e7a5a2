"""A last write on the way out of an error or a cancellation: useful, but never more important than what is under way.

What it leaves undone is put right by the next holder of the run's lease, as after a crash.
"""

import asyncio
import logging
from collections.abc import Awaitable

from engine.domain.errors import DevflowError

_log = logging.getLogger(__name__)
SECONDS = 5.0


async def best_effort(write: Awaitable[object], seconds: float = SECONDS) -> None:
    """Await `write` for at most `seconds`; a `DevflowError` or the timeout is only logged: the first error stands."""
    try:
        async with asyncio.timeout(seconds):
            await write
    except (DevflowError, TimeoutError) as error:
        _log.warning("left for recovery: %s", str(error) or type(error).__name__)
