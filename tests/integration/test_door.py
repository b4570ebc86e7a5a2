"""The door: what is committed before it is answered, and why everything else is refused."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.github.signature import sign
from app.inbound import door as door_module
from app.inbound import mailbox as mailbox_module
from app.inbound.door import MAX_BODY, PATH, Door
from app.inbound.mailbox import Mailbox, database_store
from engine.domain.errors import DevflowError
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from engine.store.host_tables import deliveries

SECRET = "the-secret-of-the-test"
BODY = b'{"action": "labeled"}'


def application(database: Database, *secrets: str) -> FastAPI:
    """The door as the server has it."""
    app = FastAPI()
    app.include_router(Door(secrets or (SECRET,), Mailbox(database_store(database))).router())
    return app


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a door with one secret."""
    async with client_of(application(database)) as made:
        yield made


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of a door; what goes wrong inside is an answer, not an exception."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://door")


def headers(body: bytes = BODY, secret: str = SECRET, **changed: str | None) -> dict[str, str]:
    """The headers of a right delivery; `changed` replaces some, None leaves one out."""
    made: dict[str, str | None] = {
        "content-type": "application/json",
        "x-github-event": "issues",
        "x-github-delivery": str(uuid4()),
        "x-hub-signature-256": sign(secret, body),
        "x-github-hook-id": "42",
    }
    made |= {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: value for name, value in made.items() if value is not None}


async def stored(database: Database) -> list[Any]:
    """The rows of all deliveries."""
    async with database.read() as tx:
        return await tx.all(select(deliveries))


def said(answer: httpx.Response) -> str:
    """The message of a refusal, after a look at its shape."""
    error = answer.json()["error"]
    assert set(error) == {"code", "kind", "message", "recovery_hint"}
    assert SECRET not in answer.text
    return str(error["message"])


async def test_a_delivery_is_stored_with_its_doorbell_before_it_is_answered(
    client: httpx.AsyncClient, database: Database
) -> None:
    body = '{"text": "\u00fc\\u0000 "}'.encode()
    sent = headers(body)

    answer = await client.post(PATH, content=body, headers=sent)

    assert (answer.status_code, answer.json()) == (202, {"delivery": sent["x-github-delivery"]})
    (row,) = await stored(database)
    assert (row["delivery_id"], row["event"], row["state"]) == (sent["x-github-delivery"], "issues", "received")
    assert (row["body"], row["repository_id"]) == (body, 0)
    assert row["headers"] == {"x-github-hook-id": "42"}
    async with database.read() as tx:
        rung = await tx.connection.exec_driver_sql("select entrypoint, payload from pgqueuer")
        assert [tuple(job) for job in rung] == [("handle_delivery", sent["x-github-delivery"].encode())]


async def test_the_same_delivery_again_is_answered_200_and_stored_once(
    client: httpx.AsyncClient, database: Database
) -> None:
    sent = headers()

    codes = [(await client.post(PATH, content=BODY, headers=sent)).status_code for _ in range(3)]

    assert codes == [202, 200, 200]
    assert len(await stored(database)) == 1


async def test_the_same_delivery_many_times_at_once_is_new_once(client: httpx.AsyncClient, database: Database) -> None:
    sent = headers()

    answers = await asyncio.gather(*(client.post(PATH, content=BODY, headers=sent) for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [202]
    assert len(await stored(database)) == 1


async def test_many_deliveries_at_once_are_all_stored(client: httpx.AsyncClient, database: Database) -> None:
    answers = await asyncio.gather(*(client.post(PATH, content=BODY, headers=headers()) for _ in range(150)))

    assert {answer.status_code for answer in answers} == {202}
    assert len(await stored(database)) == 150


async def test_the_signature_is_over_the_raw_bytes(client: httpx.AsyncClient, database: Database) -> None:
    spaced = json.dumps(json.loads(BODY), indent=2).encode()

    answer = await client.post(PATH, content=spaced, headers=headers(BODY))

    assert answer.status_code == 401
    assert "signature" in said(answer)
    assert await stored(database) == []


@pytest.mark.parametrize(
    "signature", [None, "", "sha256=", "sha1=abc", "sha256=" + "0" * 64, sign("another", BODY), "sha256=\u00e9"]
)
async def test_what_is_not_signed_by_us_is_401(
    client: httpx.AsyncClient, database: Database, signature: str | None
) -> None:
    sent = headers(x_hub_signature_256=None)
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    if signature is not None:
        raw.append((b"x-hub-signature-256", signature.encode("latin-1")))

    answer = await client.post(PATH, content=BODY, headers=raw)

    assert answer.status_code == 401
    said(answer)
    assert await stored(database) == []


async def test_every_secret_in_use_is_taken_and_a_retired_one_is_not(database: Database) -> None:
    async with client_of(application(database, "old", "new")) as both, client_of(application(database, "new")) as one:
        codes = {
            (door, secret): (await client.post(PATH, content=BODY, headers=headers(secret=secret))).status_code
            for door, client in (("both", both), ("one", one))
            for secret in ("old", "new", "")
        }

    assert codes == {
        ("both", "old"): 202,
        ("both", "new"): 202,
        ("both", ""): 401,
        ("one", "old"): 401,
        ("one", "new"): 202,
        ("one", ""): 401,
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"x_github_event": None},
        {"x_github_delivery": None},
        {"x_github_event": "Not an event"},
        {"x_github_event": "e" * 65},
        {"x_github_delivery": "with space"},
        {"x_github_delivery": "d" * 101},
        {"x_github_delivery": ""},
    ],
)
async def test_missing_or_senseless_headers_are_400(
    client: httpx.AsyncClient, database: Database, changed: dict[str, str | None]
) -> None:
    answer = await client.post(PATH, content=BODY, headers=headers(**changed))

    assert answer.status_code == 400
    assert "X-GitHub-Event" in said(answer)
    assert await stored(database) == []


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain", "application/jsonx", ""])
async def test_another_content_type_is_415(client: httpx.AsyncClient, kind: str | None) -> None:
    answer = await client.post(PATH, content=BODY, headers=headers(content_type=kind))

    assert answer.status_code == 415
    assert "application/json" in said(answer)


async def test_a_content_type_with_a_charset_is_taken(client: httpx.AsyncClient) -> None:
    kind = "Application/JSON; charset=utf-8"

    assert (await client.post(PATH, content=BODY, headers=headers(content_type=kind))).status_code == 202


async def test_another_method_is_405(client: httpx.AsyncClient) -> None:
    assert (await client.get(PATH)).status_code == 405


async def test_a_body_of_exactly_the_cap_is_stored(client: httpx.AsyncClient, database: Database) -> None:
    body = b'"' + b"x" * (MAX_BODY - 2) + b'"'

    assert (await client.post(PATH, content=body, headers=headers(body))).status_code == 202
    assert len((await stored(database))[0]["body"]) == MAX_BODY


async def test_a_body_over_the_cap_is_413_by_its_announced_length_without_being_read(database: Database) -> None:
    sent = headers(content_length=str(MAX_BODY + 1))

    status, body = await call(application(database), sent, None)

    assert status == 413
    assert str(MAX_BODY) in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("announced", [None, "10", "-5", "many", "9" * 30])
async def test_a_body_over_the_cap_is_413_whatever_length_was_announced(
    database: Database, announced: str | None
) -> None:
    chunks = [b"x" * 1_000_000] * 27

    status, _ = await call(application(database), headers(content_length=announced), chunks)

    assert status == 413
    assert await stored(database) == []


async def test_a_body_in_chunks_is_put_together(database: Database) -> None:
    chunks = [BODY[:5], b"", BODY[5:6], BODY[6:]]

    status, _ = await call(application(database), headers(), chunks)

    assert status == 202
    assert (await stored(database))[0]["body"] == BODY


async def test_a_request_that_ends_before_its_body_is_400(database: Database) -> None:
    status, _ = await call(application(database), headers(), [BODY[:5]], ends=False)

    assert status == 400
    assert await stored(database) == []


async def test_a_body_that_does_not_come_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_BODY_SECONDS", 0.05)

    status, body = await call(application(database), headers(), [BODY[:5]], ends=None)

    assert status == 400
    assert "in time" in json.loads(body)["error"]["message"]


async def test_too_much_at_once_is_503_and_goes_through_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_IN_FLIGHT", 10)
    app = application(database)

    first, _ = await call(app, headers(), [BODY])
    monkeypatch.setattr(door_module, "_IN_FLIGHT", 1_000)
    second, _ = await call(app, headers(), [BODY])

    assert (first, second) == (503, 202)


async def test_without_its_database_the_door_says_503_and_stores_nothing(tmp_path: Path) -> None:
    database = Database(f"postgresql://nobody@/none?host={tmp_path}")
    async with client_of(application(database)) as client:
        answer = await client.post(PATH, content=BODY, headers=headers())
    await database.close()

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "database_unavailable"
    said(answer)


async def test_a_database_that_comes_back_takes_what_comes_next(database: Database, tmp_path: Path) -> None:
    down = True
    real = database_store(database)

    async def store(batch: Sequence[NewDelivery]) -> set[str]:
        if down:
            raise DevflowError("database_unavailable", "the database does not answer")
        return await real(batch)

    app = FastAPI()
    app.include_router(Door((SECRET,), Mailbox(store)).router())
    sent = headers()
    async with client_of(app) as client:
        refused = await client.post(PATH, content=BODY, headers=sent)
        down = False
        taken = await client.post(PATH, content=BODY, headers=sent)

    assert (refused.status_code, taken.status_code) == (503, 202)


async def test_a_database_that_hangs_is_answered_before_github_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "_STORE_SECONDS", 0.05)

    async def store(batch: Sequence[NewDelivery]) -> set[str]:
        await asyncio.Event().wait()
        return set()

    mailbox = Mailbox(store)
    app = FastAPI()
    app.include_router(Door((SECRET,), mailbox).router())
    async with client_of(app) as client:
        answer = await client.post(PATH, content=BODY, headers=headers())
    await mailbox.close()

    assert answer.status_code == 503


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_comes_it_is_an_answer_with_a_reason_and_never_a_500(
    database: Database, data: st.DataObject
) -> None:
    known = st.sampled_from(
        [b"content-type", b"x-github-event", b"x-github-delivery", b"x-hub-signature-256", b"content-length", b"x"]
    )
    value = st.binary(max_size=80) | st.sampled_from([b"application/json", b"issues", b"18446744073709551616", b"\x00"])
    sent = {name.encode(): one.encode() for name, one in headers(data.draw(st.binary(max_size=40))).items()}
    sent |= dict(data.draw(st.lists(st.tuples(known, value), max_size=4)))
    if data.draw(st.booleans()):
        sent |= {name.encode(): one.encode() for name, one in headers().items() if name != "x-github-delivery"}
    chunks = data.draw(st.lists(st.binary(max_size=100), max_size=4) | st.just([BODY]))

    status, body = await call(application(database), list(sent.items()), chunks)

    assert status in (200, 202, 400, 401, 413, 415)
    assert isinstance(json.loads(body), dict)


async def call(
    app: FastAPI,
    sent: dict[str, str] | list[tuple[bytes, bytes]],
    chunks: list[bytes] | None,
    *,
    ends: bool | None = True,
) -> tuple[int, bytes]:
    """Call the door as a server does, with a body in chunks; None must not be read; `ends` None: it never comes."""
    raw = list(sent) if isinstance(sent, list) else [(name.encode(), value.encode()) for name, value in sent.items()]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": PATH, "raw_path": PATH.encode()}
    scope |= {"query_string": b"", "headers": raw, "client": ("192.0.2.1", 1), "server": ("door", 80), "scheme": "http"}
    left = list(chunks or [])
    status, answer = 0, b""

    async def receive() -> dict[str, Any]:
        assert chunks is not None, "the body was not to be read"
        if left:
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left) or ends is not True}
        if ends is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False} if ends else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, answer
        status = message.get("status", status)
        answer += message.get("body", b"")

    await app(scope, receive, send)
    return status, answer
