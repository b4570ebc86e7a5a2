"""`devflow serve` and `devflow worker` as an operator meets them: their start, words and end, and their neighbours."""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import select, update

from engine.store.cluster import Cluster
from engine.store.database import Database
from engine.store.host_tables import deliveries
from engine.store.tables import workers
from tests.github_double import Issue
from tests.servers import crash
from tests.support.cassettes import Turn, call
from tests.support.forked_cli import ForkedCli, until
from tests.support.served import Served, served
from tests.support.stage import TURNS

SECRET = "a secret that nobody may read"
NOWHERE = "postgresql://devflow:geheim@127.0.0.1:9/nothing"


def _pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(serialization.Encoding.PEM, *form).decode()


KEY = _pem()
GIVEN = {"GITHUB_APP_ID": "4711", "GITHUB_PRIVATE_KEY": KEY, "GITHUB_WEBHOOK_SECRET": SECRET}
WRONG = {
    "no app id": {"GITHUB_APP_ID": None},
    "no key": {"GITHUB_PRIVATE_KEY": None},
    "no secret": {"GITHUB_WEBHOOK_SECRET": None},
    "an empty secret": {"GITHUB_WEBHOOK_SECRET": ""},
    "an app id of letters": {"GITHUB_APP_ID": "Iv1.geheim"},
    "a key that is none": {"GITHUB_PRIVATE_KEY": "geheim"},
    "a key's file that is not there": {"GITHUB_PRIVATE_KEY": None, "GITHUB_PRIVATE_KEY_PATH": "/geheim.pem"},
    "an address with a password": {"GITHUB_API_URL": "https://ada:geheim@example.org/api/v3"},
    "an address of another kind": {"GITHUB_SERVER_URL": "file:///geheim"},
    "a pause below zero": {"DEVFLOW_GITHUB_SECONDS_BETWEEN_WRITES": "-1"},
    "no such cassette": {"DEVFLOW_CASSETTE": "/geheim.yaml"},
    "a cassette that is none": {"DEVFLOW_CASSETTE": "/dev/null"},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_missing_or_wrong_in_the_environment_is_named_and_nothing_starts(what: str, tmp_path: Path) -> None:
    changed = WRONG[what]
    variables = {name: value for name, value in (GIVEN | changed).items() if value is not None}
    cli = ForkedCli(tmp_path, NOWHERE, variables)

    answer = cli.run("serve", "--port", "0", code=2)

    assert "config_invalid" in answer.err
    named = [name.removeprefix("DEVFLOW_") for name in changed]
    assert any(name in answer.err for name in named) or what == "a cassette that is none", answer.err
    assert not re.search(r"geheim(?!\.yaml)|BEGIN|nobody may read", answer.err)
    assert "Listening" not in answer.err


def test_a_worker_needs_no_secret_and_the_same_rest(tmp_path: Path) -> None:
    variables = {name: value for name, value in GIVEN.items() if name != "GITHUB_WEBHOOK_SECRET"}

    assert "database_unavailable" in ForkedCli(tmp_path, NOWHERE, variables).run("worker", code=2).err
    del variables["GITHUB_APP_ID"]
    assert "GITHUB_APP_ID" in ForkedCli(tmp_path, NOWHERE, variables).run("worker", code=2).err


def test_without_its_database_nothing_starts(tmp_path: Path) -> None:
    answer = ForkedCli(tmp_path, NOWHERE, GIVEN).run("serve", "--port", "0", code=2)

    assert "database_unavailable" in answer.err
    assert "geheim" not in answer.err


def test_a_port_that_is_taken_is_said_before_anything_else_is_begun(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = ForkedCli(tmp_path, NOWHERE, GIVEN).run("serve", "--port", port, code=2)

    assert f"cannot listen on 127.0.0.1:{port}" in answer.err
    assert "--port" in answer.err


async def test_of_two_servers_on_one_port_one_listens_and_the_other_says_why_it_cannot(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        both = [on.serve(), on.serve()]
        await asyncio.to_thread(until, lambda: any(process.ended for process in both))
        (listens,) = [process for process in both if not process.ended]
        (other,) = [process for process in both if process.ended]
        answer = other.wait()

        assert answer.code == 2
        assert f"cannot listen on 127.0.0.1:{on.port}" in answer.err
        listens.wait_for("Listening on")
        assert (await ask(on.url, "/healthz"))[0] == 200
        on.end(listens)


async def ask(url: str, path: str) -> tuple[int, Any]:
    """Return status and JSON of a GET."""

    def get() -> tuple[int, Any]:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    return await asyncio.to_thread(get)


async def labelled(on: Served) -> Issue:
    """An issue that a maintainer labels; GitHub tells of it, whether anybody listens or not."""
    issue = on.issue()
    issue.label(on.ada, "devflow")
    on.deliver()
    await asyncio.to_thread(on.github.wait_deliveries)
    return issue


async def test_a_server_says_what_it_does_answers_for_its_health_and_ends_by_a_signal(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        for number in (signal.SIGTERM, signal.SIGINT):
            process = on.cli.start("serve", "--port", "0")
            process.wait_for("GitHub App devflow at")
            (address,) = re.findall(r"Listening on (http://127\.0\.0\.1:\d+)/webhooks/github", process.err)
            assert await ask(address, "/healthz") == (200, {"status": "ok"})
            assert await ask(address, "/readyz") == (200, {"status": "ok"})
            assert (await ask(address, "/docs"))[0] == 404
            process.signal(number)
            answer = process.wait()

            assert answer.code == 0
            assert answer.err.rstrip().endswith("Stopped.")
            assert answer.out == ""
            assert on.github.app.webhook_secret not in answer.err
            async with database.read() as tx:
                known = await tx.all(select(workers))
            assert all(worker["stopped_at"] for worker in known)


async def test_what_github_could_not_deliver_is_asked_for_at_the_start(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        issue = await labelled(on)
        assert {each.status_code for each in on.github.deliveries if each.guid in on.sent} == {502}

        with on.serving():
            await on.settled()

        assert [run["state"] for run in await on.runs()] == ["awaiting_approval"]
        assert [run["issue_number"] for run in await on.runs()] == [issue.number]


async def test_with_a_wrong_key_deliveries_are_kept_until_the_right_one_is_there(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        process = on.serve(GITHUB_PRIVATE_KEY=KEY)
        process.wait_for("Mend GITHUB_APP_ID or GITHUB_PRIVATE_KEY")
        process.wait_for("Listening on")
        await labelled(on)
        assert {each.status_code for each in on.github.deliveries if each.guid in on.sent} == {202}
        on.end(process)
        assert await on.runs() == []
        assert "received" in {row["state"] for row in await on.deliveries()}
        async with database.transaction() as tx:
            await tx.execute(update(deliveries).values(not_before=None))  # its next try may be some seconds off

        with on.serving():
            await on.settled()

        assert [run["state"] for run in await on.runs()] == ["awaiting_approval"]


async def test_a_server_without_workers_takes_in_and_a_worker_elsewhere_does_the_work(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        with on.serving("--workers", "0") as door:
            assert "Working" not in door.err
            await labelled(on)
            await asyncio.sleep(0.5)
            assert {row["state"] for row in await on.deliveries()} == {"received"}
            assert on.writes == []
            worker = on.work("--concurrency", "2")
            await on.settled()
            assert [run["state"] for run in await on.runs()] == ["awaiting_approval"]
            assert "Listening" not in worker.err
            on.end(worker)


def waits_once(folder: Path) -> dict[str, list[Turn]]:
    """Turns whose change takes half a minute the first time that it is tried."""
    flag = folder / "begun"
    wait = call("run_command", command=f"test -e {flag} || (touch {flag}; sleep 30)")
    return TURNS | {"change/1/1": [[wait], *TURNS["change/1/1"]]}


async def in_mid_phase(on: Served, folder: Path) -> None:
    """Bring a run to where its agent's command has begun."""
    await labelled(on)
    await on.settled()
    on.pull().review(on.bob, "approve", "")
    on.deliver()
    await asyncio.to_thread(until, (folder / "begun").exists)


async def test_a_stop_in_mid_phase_hands_the_run_back_as_it_is_and_the_next_process_goes_on(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url, turns=waits_once(tmp_path)) as on:
        first = on.serve(DEVFLOW_SHUTDOWN_DRAIN_SECONDS="0.5")
        first.wait_for("Listening on")
        await in_mid_phase(on, tmp_path)
        first.signal(signal.SIGTERM)
        answer = await asyncio.to_thread(first.wait, 15)

        assert (answer.code, "Traceback" in answer.err) == (0, False), answer.err
        (run,) = await on.runs()
        assert (run["state"], run["lease_worker"], run["error_code"]) == ("executing", None, None)
        with on.serving():
            await on.settled()
        (run,) = await on.runs()
        assert (run["state"], run["error_code"]) == ("awaiting_approval", None)


async def test_a_second_signal_ends_at_once_what_is_still_being_drained(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url, turns=waits_once(tmp_path)) as on:
        process = on.serve(DEVFLOW_SHUTDOWN_DRAIN_SECONDS="60")
        process.wait_for("Listening on")
        await in_mid_phase(on, tmp_path)
        process.signal(signal.SIGTERM)
        process.wait_for("Stopping")
        await asyncio.sleep(0.3)
        assert not process.ended
        process.signal(signal.SIGTERM)
        answer = await asyncio.to_thread(process.wait, 15)

        assert (answer.code, "Traceback" in answer.err) == (0, False), answer.err
        (run,) = await on.runs()
        assert (run["state"], run["lease_worker"]) == ("executing", None)


async def test_of_two_workers_the_other_takes_over_what_a_killed_one_had(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url, turns=waits_once(tmp_path)) as on:
        with on.serving("--workers", "0"):
            both = {process.pid: process for process in (on.work(), on.work())}
            await in_mid_phase(on, tmp_path)
            (run,) = await on.runs()
            async with database.read() as tx:
                holder = await tx.one(select(workers).where(workers.c.worker_id == run["lease_worker"]))
            killed = both.pop(holder["pid"])
            os.kill(killed.pid, signal.SIGKILL)
            assert await asyncio.to_thread(killed.wait) is not None

            await on.until(lambda row: row["state"] == "awaiting_approval" and row["epoch"] > run["epoch"])

            await on.settled()
            (other,) = both.values()
            assert (await on.runs())[0]["error_code"] is None
            on.end(other)


async def working(database: Database) -> None:
    """Wait until the server has said for the second time that it lives: its start is over."""
    async with asyncio.timeout(60):
        while True:
            async with database.read() as tx:
                if await tx.all(
                    select(workers).where(workers.c.heartbeat_at > workers.c.started_at + timedelta(seconds=0.3))
                ):
                    return
            await asyncio.sleep(0.1)


async def test_while_the_database_is_down_the_door_says_so_and_afterwards_all_goes_on(
    tmp_path: Path, own_server: tuple[Cluster, Database]
) -> None:
    cluster, database = own_server
    async with served(tmp_path, database, database.url) as on:
        with on.serving() as process:
            await working(database)
            crash(cluster)
            await labelled(on)
            refused = [each for each in on.github.deliveries if each.guid in on.sent]
            assert {each.status_code for each in refused} == {503}, process.err
            assert json.loads(refused[0].answer or "")["error"]["code"] == "database_unavailable"
            assert await ask(on.url, "/healthz") == (200, {"status": "ok"})
            status, body = await ask(on.url, "/readyz")
            assert (status, body["error"]["code"]) == (503, "database_unavailable")
            await asyncio.to_thread(cluster.start)
            async with asyncio.timeout(30):
                while await ask(on.url, "/readyz") != (200, {"status": "ok"}):
                    await asyncio.sleep(0.1)
            for each in refused:
                on.github.redeliver(each)
            on.deliver()
            on.github.release()
            await on.settled()

            assert [run["state"] for run in await on.runs()] == ["awaiting_approval"]
            assert "Traceback" not in process.err
