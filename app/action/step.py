"""One step of a workflow, from its event to its end: what `devflow action` does.

An event that is none of ours ends here, before anything is opened. For the others the issue is taken in hand
(`issue`), and without an event every issue that has something left to do (`reconciling`). A step that is cancelled lets
go at once; whatever happens to it, the next one goes on.
"""

import asyncio
import contextlib
import hashlib
import shutil
import signal
from collections.abc import Iterator

from app.action import screening
from app.action.environment import not_on_a_runner
from app.action.fetching import fetching
from app.action.glance import glance
from app.action.issue import IssueStep
from app.action.opening import Given, open_workshop
from app.action.outcome import Outcome
from app.action.reconciling import reconcile
from app.github.event_types import CommentCreated, RepositoryEvent, ReviewSubmitted
from app.github.faults import HostFault
from app.github.refusals import why_ended
from engine.domain.errors import DevflowError
from engine.store.deliveries import NewDelivery


async def act(given: Given) -> Outcome:
    """Do what the step was started for; an error that people can meet is in the outcome."""
    try:
        with _signals() as stop, _folder(given):
            if given.environment.event_name in screening.RECONCILING:
                return await reconcile(given, stop)
            return await _handle(given, stop)
    except DevflowError as error:
        return Outcome("", error=error)
    except HostFault as fault:
        return Outcome("", error=why_ended(fault))


async def _handle(given: Given, stop: asyncio.Event) -> Outcome:
    environment = given.environment
    try:
        body = environment.event_path.read_bytes()
    except OSError as error:
        raise not_on_a_runner(f"GITHUB_EVENT_PATH cannot be read: {error.strerror}") from None
    screened = screening.screen(environment.event_name, body)
    event = screened.event
    if event is None:
        return Outcome(f"Nothing to do: {screened.why}.", is_ours=False)
    if event.repository.id != environment.repository_id:
        raise DevflowError("config_invalid", "the event is of another repository than the step")
    seen = await glance(given, event)
    if seen is None:
        return Outcome("Nothing to do: the event is about no run and starts none.", is_ours=False)
    async with fetching(given, event), open_workshop(given) as shop:
        github = await shop.repository(event.repository.default_branch)
        name = environment.event_name
        delivery = NewDelivery(delivery_id(name, event, body), name, {}, body)
        return await IssueStep(shop, github, seen.issue_number, delivery, keeps=seen.keeps).run(stop)


def delivery_id(name: str, event: RepositoryEvent, body: bytes) -> str:
    """Return an id that a job that is run again has again, and an event that is found later as well."""
    match event:
        case CommentCreated(comment=comment):
            return f"comment:{comment.id}"
        case ReviewSubmitted(review=review):
            return f"review:{review.id}"
    return f"{name}:{hashlib.sha256(body).hexdigest()}"


@contextlib.contextmanager
def _folder(given: Given) -> Iterator[None]:
    """Have an empty folder for the step, and leave nothing of it: a runner may live on."""
    shutil.rmtree(given.settings.data_dir, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(given.settings.data_dir, ignore_errors=True)


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Yield what SIGINT or SIGTERM set; a second one ends at once what is still under way."""
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
