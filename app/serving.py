"""`devflow serve` and `devflow worker`: a host's life in this process, from its start to a clean stop.

The web server runs inside our own loop, with our own handling of signals. At a stop the door closes first, then what
was taken in is drained; runs that are under way are handed back as they are, for the next worker.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import uvicorn

from app.github.faults import HostFault, Unauthorised
from app.hosting import Host
from app.inbound.door import PATH, Door
from app.inbound.mailbox import Mailbox, database_store
from app.local import console
from app.server import create_app
from app.settings import AppSettings, read_app_settings
from engine.domain.errors import EXIT_OK, DevflowError
from engine.settings import Settings

_DOOR_CLOSES_SECONDS = 10
_BACKLOG = 2048


async def serve(settings: Settings, host: str, port: int, workers: int | None) -> int:
    """Take webhooks and, unless `workers` is 0, do all the work as well, until a signal says to stop."""
    app_settings = read_app_settings(takes_webhooks=True)
    with _listening(host, port) as listener:
        async with Host.open(settings, app_settings) as hosted:
            return await _live(hosted, app_settings, listener, workers)


async def work(settings: Settings, concurrency: int | None) -> int:
    """Do the work of a server elsewhere that shares the database, until a signal says to stop."""
    app_settings = read_app_settings(takes_webhooks=False)
    async with Host.open(settings, app_settings) as hosted:
        return await _live(hosted, app_settings, None, concurrency)


async def _live(hosted: Host, settings: AppSettings, listener: socket.socket | None, slots: int | None) -> int:
    stop = asyncio.Event()
    works = listener is None or slots != 0
    with _signals(stop):
        introduced = asyncio.create_task(_introduce(hosted, settings))
        ended = asyncio.Event()
        tasks = [asyncio.create_task(_answer(hosted, settings, listener, stop, ended))]
        if works:
            console.say("Working: deliveries, runs and what people see of them.")
            tasks.append(asyncio.create_task(_work_until(hosted, ended, slots, stop)))
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if not stop.is_set() or current is None:
                raise
            current.uncancel()  # the second signal, which wants the same, sooner
        finally:
            introduced.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(introduced, *tasks, return_exceptions=True)
    console.say("Stopped.")
    return EXIT_OK


async def _work_until(hosted: Host, ended: asyncio.Event, slots: int | None, stop: asyncio.Event) -> None:
    try:
        await hosted.run(ended, slots=slots)
    finally:
        stop.set()  # without the work behind it, the door does not stay open


async def _answer(
    hosted: Host, settings: AppSettings, listener: socket.socket | None, stop: asyncio.Event, ended: asyncio.Event
) -> None:
    """Answer requests until `stop`, then close the door; `ended` tells the others that nothing more comes in."""
    try:
        if listener is None:
            await stop.wait()
            return
        mailbox = Mailbox(database_store(hosted.database))
        door = Door(settings.webhook_secrets, mailbox)
        server = _Server(
            uvicorn.Config(
                create_app(hosted.database, door),
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_DOOR_CLOSES_SECONDS,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopped = asyncio.create_task(stop.wait())
        console.say(f"Listening on {_address(listener)}{PATH}")
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        server.should_exit = True
        await serving
        await mailbox.close()
    finally:
        stop.set()
        ended.set()


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals, which would end the process before the work is handed back."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to us."""
        yield


async def _introduce(hosted: Host, settings: AppSettings) -> None:
    """Say which App this is; a GitHub that does not answer is no reason not to start."""
    if settings.cassette is not None:
        console.say(f"Every run that starts here is done by a recorded agent: {settings.cassette[0]}")
    try:
        console.say(f"GitHub App {await hosted.app.slug()} at {settings.server_url}")
    except Unauthorised:
        console.say(
            "GitHub does not take GITHUB_APP_ID with this private key: deliveries are kept, and nothing can be done "
            "about them. Mend GITHUB_APP_ID or GITHUB_PRIVATE_KEY and start again."
        )
    except HostFault as fault:
        console.say(f"GitHub does not answer yet, deliveries are kept until it does: {fault}")


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens before anything else is begun; raises `usage` where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named, because asyncio turns Nagle's algorithm off only where it sees the protocol
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with contextlib.closing(listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            # at once: what comes before all else has started waits here, and who comes second to a port hears of it
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            hint = "choose another address with --host and --port"
            raise DevflowError("usage", f"cannot listen on {host}:{port}: {error}", recovery_hint=hint) from None
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first SIGINT or SIGTERM; a second one ends at once what is still being drained."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
            return
        console.say("Stopping: the door is closed, and what is under way is handed back.")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
