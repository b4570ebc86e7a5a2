"""Attacks on the door: memory for many bodies at once, requests that are signed and senseless."""

import asyncio
import json
from collections.abc import Sequence
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.github.events import Unreadable, parse
from app.github.signature import sign, verify
from app.inbound import door as door_module
from app.inbound.door import PATH, Door
from app.inbound.mailbox import Mailbox
from engine.store.deliveries import NewDelivery

SECRET = "the-secret-of-the-test"
MEGABYTE = b"x" * 1_000_000


def _client(store: object) -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(Door((SECRET,), Mailbox(store)).router())  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://door")


async def _send(client: httpx.AsyncClient, body: bytes) -> int:
    headers = {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": str(uuid4()),
        "x-hub-signature-256": sign(SECRET, body),
    }
    return (await client.post(PATH, content=body, headers=headers)).status_code


async def test_bodies_count_until_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_IN_FLIGHT", 3_500_000)
    opened = asyncio.Event()

    async def store(batch: Sequence[NewDelivery]) -> set[str]:
        await opened.wait()
        return {delivery.delivery_id for delivery in batch}

    async with _client(store) as client:
        waiting = [asyncio.create_task(_send(client, MEGABYTE)) for _ in range(3)]
        await asyncio.sleep(0.5)
        refused = await _send(client, MEGABYTE)
        opened.set()
        taken = await asyncio.gather(*waiting)
        after = await _send(client, MEGABYTE)

    assert (refused, taken, after) == (503, [202, 202, 202], 202)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        "sha1=" + "0" * 40,
        "sha256=" + "0" * 64,
        sign(SECRET, b"{}").upper(),
        sign(SECRET, b"{}").replace("sha256", "SHA256"),
        " " + sign(SECRET, b"{}"),
        sign(SECRET, b"{}") + ", " + sign(SECRET, b"{}"),
        sign(SECRET, b"{}").removeprefix("sha256="),
        sign("", b"{}"),
        sign(SECRET, b"{ }"),
        "sha256=\u0660\u0661",
        "\udc80",
    ],
)
def test_what_is_not_the_signature_is_none(header: str | None) -> None:
    assert not verify((SECRET, ""), b"{}", header)
    assert not verify((), b"{}", header)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b'{"action": ' + b"9" * 100_000 + b"}",
        b'{"action": NaN}',
        b'{"action": "deleted", "action": 1}',
        b"\xff\xfe{\x00}\x00",
        b'{"action": "\xed\xa0\x80"}',
        b"\x00",
        b"",
        b"null",
        b'"x"',
        b'{"action": {"deleted": 1}}',
        b'{"action": "deleted", "issue": {"number": 1e999}}',
        b'{"action": "deleted", "issue": {"number": true}}',
        b'{"action": "deleted", "issue": {"number": -1}}',
        b'{"action": "deleted", "issue": {"number": 9223372036854775808}}',
        json.dumps({"action": "labeled", "issue": {"number": "1; DROP TABLE runs"}}).encode(),
    ],
)
@pytest.mark.parametrize("event", ["issues", "issue_comment", "push", "installation", "repository"])
def test_a_signed_body_that_makes_no_sense_is_unreadable_or_nothing(event: str, body: bytes) -> None:
    try:
        assert parse(event, body) is None
    except Unreadable as unreadable:
        assert len(str(unreadable)) < 200
