"""What everybody does who hears doorbells: work on one thing at a time per key, wait, back off, sweep, drain.

A `Dispatcher` turns keys into tasks: doorbells for one key become one, a key that rings while it is in hand comes once
more afterwards, and one whose work failed is left alone for a growing time. `attend` keeps the services around it:
the listener (see `doorbells`), the sweeper, which finds what nobody rang for, and the heartbeat.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from engine.domain.errors import DevflowError, Fenced
from engine.doorbells import listen

Key = TypeVar("Key", bound=Hashable)

_log = logging.getLogger(__name__)
_BACK_OFF_FIRST = 1.0
_BACK_OFF_MOST = 60.0
_UNWIND_SECONDS = 30.0
# An outage of somebody else's needs no traceback each time that it is tried again.
_WAITED_OUT = ("database_unavailable", "github_unavailable")


class Dispatcher(Generic[Key]):
    """Has `handle` called for each key that is heard of, for `concurrency` keys at once and never twice for one.

    An exception out of `handle` is logged; nothing is lost by going on, because whoever sweeps finds the row again.
    `on_end` is called whenever a key is no longer in hand.
    """

    def __init__(
        self,
        what: str,
        handle: Callable[[Key], Awaitable[None]],
        concurrency: int,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._what = what
        self._handle = handle
        self._concurrency = concurrency
        self._on_end = on_end
        self._open = True
        self._in_hand: dict[Key, asyncio.Task[None]] = {}
        self._waiting: dict[Key, None] = {}  # a set that keeps the order in which they rang
        self._rang_again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}

    @property
    def free(self) -> int:
        """How many more keys could be in hand now; 0 after the end."""
        return max(0, self._concurrency - len(self._in_hand) - len(self._waiting)) if self._open else 0

    def known(self) -> list[Key]:
        """Return the keys that need not be heard of now: in hand, waiting, or left alone for a while."""
        now = time.monotonic()
        self._not_before = {key: until for key, until in self._not_before.items() if until > now}
        return [*self._in_hand, *self._waiting, *self._not_before]

    def hear(self, key: Key) -> None:
        """Take a key in hand, at once or when its turn comes; nothing happens while it is to be left alone."""
        if not self._open or time.monotonic() < self._not_before.get(key, 0.0):
            return
        if key in self._in_hand:
            self._rang_again.add(key)
        else:
            self._waiting[key] = None
            self._start_waiting()

    def stop_all(self) -> int:
        """Cancel what is in hand and forget what waits; returns how many pieces of work that ended."""
        self._waiting.clear()
        self._rang_again.clear()
        for task in self._in_hand.values():
            task.cancel()
        return len(self._in_hand)

    def close(self) -> None:
        """Hear nothing more; what is in hand goes on."""
        self._open = False
        self._waiting.clear()

    async def drain(self, seconds: float) -> None:
        """Let what is in hand go on for `seconds`, then cancel it and wait until it has unwound."""
        if self._in_hand and seconds > 0:
            await asyncio.wait(self._in_hand.values(), timeout=seconds)
        left = list(self._in_hand.values())
        for task in left:
            task.cancel()
        if left:
            _, stuck = await asyncio.wait(left, timeout=_UNWIND_SECONDS)
            for task in stuck:
                _log.error("%s does not end; what it holds runs out by itself", task.get_name())

    def _start_waiting(self) -> None:
        while self._waiting and len(self._in_hand) < self._concurrency:
            key = next(iter(self._waiting))
            del self._waiting[key]
            task = asyncio.create_task(self._work(key), name=f"{self._what} {key}")
            self._in_hand[key] = task
            task.add_done_callback(lambda _, key=key: self._ended(key))  # type: ignore[misc]

    def _ended(self, key: Key) -> None:
        del self._in_hand[key]
        if key in self._rang_again and self._open and key not in self._not_before:
            self._waiting[key] = None
        self._rang_again.discard(key)
        self._start_waiting()
        self._on_end()

    async def _work(self, key: Key) -> None:
        try:
            await self._handle(key)
            self._failures.pop(key, None)
        except Fenced as lost:
            _log.info("%s", lost)
        except Exception as error:  # noqa: BLE001 - logged below, with its traceback
            known = isinstance(error, DevflowError) and error.code in _WAITED_OUT
            delay = self._back_off(key)
            _log.error(
                "%s %s failed and is left alone for %.0f s: %s", self._what, key, delay, error, exc_info=not known
            )

    def _back_off(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(_BACK_OFF_FIRST * 2 ** min(failures - 1, 10), _BACK_OFF_MOST)
        self._not_before[key] = time.monotonic() + delay
        return delay


async def attend(
    dispatcher: Dispatcher[Any],
    *,
    url: str,
    queue: str,
    on_doorbell: Callable[[bytes], None],
    sweep: Callable[[], Awaitable[None]],
    sweep_seconds: float,
    wake: asyncio.Event | None = None,
    heartbeat: "asyncio.Task[None]",
    stop: asyncio.Event,
    drain_seconds: float,
) -> None:
    """Listen and sweep until `stop` is set, then let the dispatcher drain; raises what made a service end by itself.

    A set `wake` has the sweep begin at once; the heartbeat is another's, and goes on.
    """
    deaf = asyncio.Event()
    listener = asyncio.create_task(listen(url, queue, on_doorbell, deaf, sweep_seconds), name=f"listener {queue}")
    sweeper = asyncio.create_task(repeat(sweep, sweep_seconds, wake), name=f"sweeper {queue}")
    stopped = asyncio.create_task(stop.wait())
    granted = 0.0
    try:
        done, _ = await asyncio.wait({heartbeat, sweeper, listener, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for service in done - {stopped}:
            service.result()
        granted = drain_seconds
    finally:
        dispatcher.close()
        deaf.set()
        await end(sweeper, stopped)
        await dispatcher.drain(granted)
        await asyncio.wait({listener})


async def repeat(step: Callable[[], Awaitable[None]], seconds: float, wake: asyncio.Event | None = None) -> None:
    """Take a step every `seconds`, and whenever `wake` is set; a database that does not answer is waited for."""
    wake = wake or asyncio.Event()
    while True:
        wake.clear()
        try:
            async with asyncio.timeout(max(seconds, 1.0)):
                await step()
        except (DevflowError, TimeoutError) as error:
            if isinstance(error, DevflowError) and error.code != "database_unavailable":
                raise
            _log.warning("%s failed: %s", step.__name__.strip("_"), error or "no answer in time")
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            continue


async def end(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
