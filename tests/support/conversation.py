"""Conversations with the App on its stage, and what must hold at the end of each, whatever was said.

`conversation` is the stage with that check at its end. A test says what is particular to it; here stands what is never
allowed: two of something, a storm, a mention of anybody but who asked, a token where people or files can have it.
"""

import asyncio
import base64
import contextlib
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, select, text

from app.surface.render import marker_of
from engine.domain.states import RequestState, RunState
from engine.store.host_tables import deliveries, hosted_repositories, surfaces
from engine.store.tables import runs
from tests.github_double import Comment, Delivery, Issue, Pull, Review
from tests.support.acting_text import Acting, acting
from tests.support.cassettes import Json, call
from tests.support.repositories import git
from tests.support.stage import Stage, stage

_TAGS = {"details", "summary", "b", "sub", "br"}
_LOUD = ("app", "engine", "github", "urllib3")
_CREATES = re.compile(r"/(?:issues/\d+/comments|pulls|check-runs|statuses/\w+)")
_EDITS_A_STEP = 9
_LARGEST = 5_000_000


@contextlib.asynccontextmanager
async def conversation(
    folder: Path, database_url: str, *, failing: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[Stage]:
    """Open the stage as `stage` does; after the last word, everything settles and must be in order.

    `failing` are words of errors that the server's log may have, because the conversation is about them.
    """
    with _listening() as said:
        async with stage(folder, database_url, **options) as play:
            yield play
            await play.settled()
            await assert_in_order(play, folder, said, failing)


def shown(play: Stage, run: RowMapping, what: str) -> list[Comment]:
    """Return the App's comments on one thing of a run: `status`, `gate`, `stop` or `end`, oldest first."""
    return [one for key, one in _surfaces(play) if key.startswith(f"run/{run['run_id']}/{what}")]


def headline(comment: Comment) -> str:
    """Return the first line that people see of a comment of the App."""
    return comment.body.split("\n")[1].removeprefix("### ")


def a_minute_later(play: Stage) -> None:
    """Let GitHub's clock be a minute ahead: a label that is put on twice within a second is one labelling."""
    clock = play.github.world.clock
    play.github.world.clock = lambda: clock() + timedelta(minutes=1)


def delivery_of(play: Stage, event: str, thing: Comment | Review) -> Delivery:
    """Return the delivery that told of a new comment or a review."""
    part = "comment" if event == "issue_comment" else "review"
    return next(one for one in play.github.deliveries if one.event == event and one.payload[part]["id"] == thing.id)


def held_up(folder: Path) -> Json:
    """Return a command of an agent that goes on when `let_go` is called; for other runs it has no effect."""
    began, go = folder / "began", folder / "go"
    return call(
        "run_command", command=f"if mkdir {began} 2>/dev/null; then until test -e {go}; do sleep 0.05; done; fi"
    )


async def at_work(play: Stage, folder: Path) -> None:
    """Wait until an agent stands still in `held_up`."""
    await play.until((folder / "began").exists)


def let_go(folder: Path) -> None:
    """Let the agent in `held_up` go on."""
    (folder / "go").touch()


async def assert_in_order(play: Stage, folder: Path, said: list[str], failing: tuple[str, ...] = ()) -> None:
    """Assert everything that holds at the end of every conversation."""
    async with play.database.read() as tx:
        rows = await tx.all(select(runs).order_by(runs.c.number))
        gone = bool(await tx.all(select(hosted_repositories).where(hosted_repositories.c.gone_at.is_not(None))))
        handled = await tx.all(select(deliveries))
    for run in rows:
        await _assert_run(play, run, gone=gone)
    wrong = [row for row in handled if row["state"] in ("failed", "unreadable")]
    wrong = [f"{row['event']}: {row['outcome']}" for row in wrong]
    wrong = [line for line in wrong if not any(words in line for words in failing)]
    assert not wrong, wrong
    await _assert_no_storm(play, rows)
    await _assert_texts(play, rows)
    await _assert_no_token(play, folder, said)
    errors = [line for line in said if line.startswith(("ERROR", "CRITICAL"))]
    errors = [line for line in errors if not any(words in line for words in failing)]
    assert not errors, "\n".join(errors)


async def _assert_run(play: Stage, run: RowMapping, *, gone: bool) -> None:
    """Assert that a run has one of everything, that it is shown as it stands, and that its history is whole."""
    state = RunState(run["state"])
    engine = play.host.engine
    assert (await engine.broken_link(run["run_id"]))[1] is None
    requests = await engine.requests(run["run_id"])
    pending = [request for request in requests if request["state"] == RequestState.PENDING]
    assert len(pending) == (1 if state is RunState.AWAITING_APPROVAL else len(pending))
    phases = (await engine.details(run["run_id"]))["phases"]
    if state.terminal:
        assert (pending, run["lease_worker"], run["requested_action"]) == ([], None, None)
        assert {phase["state"] for phase in phases} <= {"pending", "completed", "failed", "skipped"}
        assert run["final_report_path"] is not None
    there = not gone and run["issue_number"] in play.repository.numbered
    pulls = [pull for pull in play.repository.pulls if pull.head_ref == run["branch"] and pull.author.login == play.bot]
    assert len(pulls) <= 1
    assert len(shown(play, run, "status")) == 1 or not there
    for request in requests:
        found = shown(play, run, f"gate/{request['request_id']}")
        assert len(found) <= 1
        if request in pending and there:
            assert headline(found[0]).startswith("🟡")
        if request["state"] == RequestState.SUPERSEDED and found and there:
            assert found[0].minimized_reason == "outdated"
    assert len(shown(play, run, "end")) <= 1
    if there and run["pushed_sha"] and not run["discard_branch"] and state is not RunState.ABORTED:
        (pull,) = pulls
        assert pull.draft == (state is not RunState.COMPLETED) or pull.state == "closed"
        assert (pull.body or "").startswith(
            f"<!-- devflow:run/{run['run_id']}/pull -->\nCloses #{run['issue_number']}."
        )
    if there and state is RunState.ABORTED:
        assert [pull.state for pull in pulls] in ([], ["closed"])


def _surfaces(play: Stage) -> list[tuple[str, Comment]]:
    """Return the App's comments with the keys in their first lines."""
    return [(marker_of(one.body) or "", one) for page in _pages(play) for one in play.ours(page)]


def _pages(play: Stage) -> list[Issue]:
    return [page for repository in play.github.world.repositories.values() for page in repository.numbered.values()]


async def _assert_no_storm(play: Stage, rows: list[RowMapping]) -> None:
    """Assert that nothing was said twice, that each thing was made by one call, and that there were few calls."""
    keys = Counter(key for key, _ in _surfaces(play))
    assert "" not in keys
    assert not [key for key, times in keys.items() if times > 1]
    async with play.database.read() as tx:
        known = await tx.all(select(surfaces).where(surfaces.c.external_id.is_not(None)))
    made = [one for one in play.github.calls("POST") if _CREATES.search(one.path) and (one.status or 0) < 300]
    twice = [row for row in known if row["facts"].get("brought_back")]
    assert len(made) <= len(known) + len(twice)
    acts = [one for one in play.github.deliveries if one.payload["sender"]["type"] == "User"]
    steps = 0
    talk = 0
    for run in rows:
        events = [event["type"] for event in await play.host.engine.events(run["run_id"])]
        steps += len([kind for kind in events if kind.startswith(("run.", "phase.", "approval.", "artifact."))])
        talk += 2 + sum(kind in ("approval.requested", "run.paused") for kind in events)
    assert len(keys) <= talk + len(acts)
    writes = [
        one
        for method in ("POST", "PATCH", "PUT", "DELETE")
        for one in play.github.calls(method)
        if "git-" not in one.path and "access_tokens" not in one.path
    ]
    overtaken = Counter(one.path for one in play.github.calls("PATCH", "/check-runs/") if _is_neutral(one.body))
    assert max(overtaken.values(), default=0) <= 1 + sum(one.event == "push" for one in acts)  # back and forth by hand
    assert len(writes) <= _EDITS_A_STEP + steps * 2 + len(acts) * 3, Counter((w.method, w.path) for w in writes)


def _is_neutral(body: Any) -> bool:
    return isinstance(body, dict) and body.get("conclusion") == "neutral"


async def _assert_texts(play: Stage, rows: list[RowMapping]) -> None:
    """Assert that no text of ours does anything on GitHub but mention who is meant and close the run's issue."""
    requesters = {}
    for run in rows:
        metadata = (await play.host.engine.inputs(run["run_id"]))["metadata"]
        requesters[str(run["run_id"])] = metadata["requested_by"]
    for key, comment in _surfaces(play):
        found = acting(comment.body)
        meant = {requesters[key.split("/")[1]]} if key.startswith("run/") else _addressees(play, key)
        assert set(found.mentions) <= meant, (key, found.mentions)
        assert (found.references, found.closes) == ((), ()), (key, comment.body)
        _assert_harmless(play, found, key)
    for page in _pages(play):
        if not isinstance(page, Pull) or page.author.login != play.bot:
            continue
        found = acting(page.body or "")
        assert (found.mentions, len(found.references), len(found.closes)) == ((), 1, 1), page.body
        _assert_harmless(play, found, page.head_ref)
        title = acting(page.title)
        assert (title.mentions, title.references, title.links, title.hidden) == ((), (), (), ())
    for check in play.repository.check_runs:
        found = acting("\n\n".join(filter(None, (check.title, check.summary, check.text))))
        assert (found.mentions, found.references, found.closes, found.hidden) == ((), (), (), ())
    for run in rows:
        if run["branch"] in play.repository.branches():
            span = f"{run['base_sha']}..{run['branch']}"
            for message in git(play.repository.git_dir, "log", "--no-merges", "--format=%B%x00", span).split("\0"):
                if f"Devflow-Run: {run['run_id']}" in message:
                    found = acting(message)
                    assert (found.mentions, found.references, found.closes) == ((), (), ()), message


def _assert_harmless(play: Stage, found: Acting, what: str) -> None:
    assert set(found.tags) <= _TAGS, (what, found.tags)
    assert len(found.comments) == 1, (what, found.comments)
    assert not found.hidden, (what, found.hidden)
    assert not [link for link in found.links if not link.startswith(play.github.server_url)], (what, found.links)


def _addressees(play: Stage, key: str) -> set[str]:
    """Return who a reply may be to: the people who did what its key names."""
    kind, number, *rest = key.removeprefix("reply/").split("/")
    world = play.github.world
    if kind == "comment":
        return {one.author.login for page in _pages(play) for one in page._comments if one.id == int(number)}
    if kind == "review":
        pulls = [page for page in _pages(play) if isinstance(page, Pull)]
        return {one.author.login for pull in pulls for one in pull.reviews if one.id == int(number)}
    if kind == "issue":
        return {user.login for user in world.users.values() if user.id == int(rest[0])}
    if kind == "label":
        issues = [page for page in _pages(play) if page.issue_id == int(number)]
        return {one.actor.login for page in issues for one in page.happenings if one.event == "labeled"}
    pushes = [one.payload for one in play.github.deliveries if one.event == "push"]
    return {push["sender"]["login"] for push in pushes if push["after"] == number}


async def _assert_no_token(play: Stage, folder: Path, said: list[str]) -> None:
    """Assert that no credential that was ever shown or given stands in log, database, files, Git, texts or paths."""
    secrets = _secrets(play)
    assert len(secrets) > 4
    places = {"log": "\n".join(said), "database": await _dump(play)}
    places["texts"] = "\n".join(
        f"{page.title}\n{page.body}\n" + "\n".join(one.body for one in play.ours(page)) for page in _pages(play)
    )
    places["paths"] = "\n".join(f"{one.path}?{one.query}" for one in play.github.requests)
    places["commits"] = await asyncio.to_thread(git, play.repository.git_dir, "log", "-p", "--all")
    for path in (folder / "data").rglob("*"):
        if path.is_file() and path.stat().st_size < _LARGEST:
            places[str(path)] = path.read_bytes().decode("latin-1")
    for place, contents in places.items():
        for secret in secrets:
            found = secret in contents or secret.encode().hex() in contents
            assert not found, f"{secret[:12]}... stands in {place}"


def _secrets(play: Stage) -> set[str]:
    """Return every token that there is, everything that came as a credential, and the App's own secrets."""
    app = play.github.app
    found = set(play.github.world.tokens)
    found |= {line for line in app.private_key_pem.splitlines() if "KEY" not in line and len(line) > 30}
    found.add(app.webhook_secret)
    for request in play.github.requests:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if value:
            found.add(value)
        if scheme.lower() == "basic":
            found.add(base64.b64decode(value).decode().partition(":")[2])
    return found


async def _dump(play: Stage) -> str:
    """Return every row of every table as text; bytes are in hex."""
    async with play.database.read() as tx:
        tables = await tx.all(
            text("SELECT quote_ident(table_name) AS name FROM information_schema.tables WHERE table_schema = 'public'")
        )
        parts = [
            row["line"]
            for table in tables
            for row in await tx.all(text(f"SELECT t::text AS line FROM {table['name']} AS t"))
        ]
    return "\n".join(parts)


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """Keep everything that is logged meanwhile, the App's own words and its client's in all detail."""
    said: list[str] = []
    formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(formatter.format(record))

    ear = Ear(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in _LOUD]
    root = logging.getLogger()
    before = [(logger, logger.level) for logger in (root, *loggers)]
    root.addHandler(ear)
    root.setLevel(min(root.level, logging.INFO))
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield said
    finally:
        root.removeHandler(ear)
        for logger, level in before:
            logger.setLevel(level)
