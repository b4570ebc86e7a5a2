"""Embedded Postgres: it starts, is shared, survives what kills it, and lets nobody in as superuser."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from engine.domain.errors import DevflowError
from engine.store import installation
from engine.store.address import connect_arguments
from engine.store.embedded import EmbeddedPostgres, default_data_dir, open_embedded
from engine.store.installation import choose_home, find_programs, server_account
from tests.servers import cluster_of

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a second user to run the server as")


async def ask(server: EmbeddedPostgres, sql: str) -> object:
    """Return the one value that `sql` yields, asked on a connection of its own."""
    connection = await asyncpg.connect(**connect_arguments(server.url))
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def postmaster(data_dir: Path) -> int:
    """Return the server's process id."""
    return int((data_dir / "postgres/data/postmaster.pid").read_text().split()[0])


async def test_the_product_connects_as_a_role_that_is_no_superuser(data_dir: Path) -> None:
    server = await open_embedded(data_dir)

    role = await ask(server, "SELECT current_user || ' ' || rolsuper || ' ' || rolcreaterole || ' ' || rolcreatedb"
                             " FROM pg_roles WHERE rolname = current_user")  # fmt: skip
    owner = await ask(server, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
    await server.close()

    assert role == "devflow false false false"
    assert owner == "devflow"


async def test_neither_the_superuser_nor_anybody_without_the_password_gets_in(data_dir: Path) -> None:
    server = await open_embedded(data_dir)
    address = {"host": str(server.socket_folder), "database": "devflow"}

    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(user="postgres", **address)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(user="devflow", password="guess", **address)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(server, "COPY (SELECT 1) TO PROGRAM 'true'")
    await server.close()


async def test_the_address_shows_no_password_and_the_files_are_closed(data_dir: Path) -> None:
    server = await open_embedded(data_dir)

    password = (server.home / "pgpass").read_text().strip().rpartition(":")[2]
    modes = {name: stat.S_IMODE((server.home / name).stat().st_mode) for name in ("pgpass", "socket", "data")}
    await server.close()

    assert len(password) == 48
    assert password not in server.url
    assert modes == {"pgpass": 0o600, "socket": 0o700, "data": 0o700}


async def test_the_server_gets_nothing_of_our_environment(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    server = await open_embedded(data_dir)
    environment = Path(f"/proc/{postmaster(data_dir)}/environ").read_bytes()
    await server.close()

    assert b"OPENAI_API_KEY" not in environment


async def test_the_last_one_to_close_stops_the_server_and_the_data_stays(data_dir: Path) -> None:
    first, second = await open_embedded(data_dir), await open_embedded(data_dir)
    await ask(first, "CREATE TABLE kept AS SELECT 42 AS answer")

    stopped = [await first.close(), await second.close(), await second.close()]
    running = cluster_of(data_dir).running()
    third = await open_embedded(data_dir)
    answer = await ask(third, "SELECT answer FROM kept")
    await third.close()

    assert stopped == [False, True, False]
    assert not running
    assert answer == 42


async def test_ten_processes_may_open_and_close_it_at_once(data_dir: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from engine.store.embedded import open_embedded\n"
        "async def main():\n"
        "    server = await open_embedded(Path(sys.argv[1]))\n"
        "    await server.close()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(data_dir)]

    processes = [await asyncio.create_subprocess_exec(*command) for _ in range(10)]
    codes = [await process.wait() for process in processes]

    assert codes == [0] * 10
    assert not cluster_of(data_dir).running()


async def test_a_client_that_was_killed_does_not_keep_the_server_alive(data_dir: Path) -> None:
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from engine.store.embedded import open_embedded\n"
        "asyncio.run(open_embedded(Path(sys.argv[1])))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(data_dir)], check=False)
    left_running = cluster_of(data_dir).running()

    server = await open_embedded(data_dir)

    assert left_running
    assert await server.close() is True


async def test_a_killed_server_is_started_again_at_once_with_its_rows(data_dir: Path) -> None:
    server = await open_embedded(data_dir)
    await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")

    for _ in range(3):
        os.kill(postmaster(data_dir), signal.SIGKILL)
        again = await open_embedded(data_dir)
        assert await ask(again, "SELECT answer FROM kept") == 42
        await again.close()

    assert await server.close() is True


async def test_a_stale_pid_file_that_names_another_process_does_not_block_the_start(data_dir: Path) -> None:
    server = await open_embedded(data_dir)
    await server.close()
    with subprocess.Popen(["sleep", "60"]) as other:
        pid_file = data_dir / "postgres/data/postmaster.pid"
        pid_file.write_text(f"{other.pid}\n{data_dir}/postgres/data\n1\n5432\n/tmp\n\n  1  999999999\nready   \n")

        server = await open_embedded(data_dir)

        assert await ask(server, "SELECT 1") == 1
        await server.close()
        assert other.poll() is None
        other.kill()


async def test_a_server_whose_socket_was_cleaned_away_is_started_again(data_dir: Path) -> None:
    first = await open_embedded(data_dir)
    for path in first.socket_folder.iterdir():
        path.unlink()

    second = await open_embedded(data_dir)

    assert await ask(second, "SELECT 1") == 1
    await second.close()
    await first.close()


async def test_a_lost_password_file_is_replaced(data_dir: Path) -> None:
    server = await open_embedded(data_dir)
    await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    await server.close()
    (data_dir / "postgres/pgpass").unlink()

    server = await open_embedded(data_dir)

    assert await ask(server, "SELECT answer FROM kept") == 42
    await server.close()


async def test_a_creation_that_was_cut_short_starts_anew(data_dir: Path) -> None:
    half = data_dir / "postgres/data.new"
    half.mkdir(parents=True)
    (data_dir / "postgres").chmod(0o711)
    (half / "PG_VERSION").write_text("18\n")

    server = await open_embedded(data_dir)

    assert await ask(server, "SELECT 1") == 1
    assert not half.exists()
    await server.close()


async def test_a_data_folder_too_long_for_a_socket_or_with_odd_characters_works(data_dir: Path) -> None:
    folder = data_dir / ("long" * 25) / "it's a folder, é %"
    folder.mkdir(parents=True)
    for path in (folder, folder.parent):
        path.chmod(0o711)

    server = await open_embedded(folder)
    answer, socket_folder = await ask(server, "SELECT 1"), server.socket_folder
    await server.close()

    assert answer == 1
    assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    socket_folder.rmdir()


async def test_a_server_that_keeps_running_is_stopped_on_request(data_dir: Path) -> None:
    server = await open_embedded(data_dir, keep_running=True)

    closed = await server.close()
    running = cluster_of(data_dir).running()
    again = await open_embedded(data_dir)
    await again.stop()

    assert (closed, running) == (False, True)
    assert not cluster_of(data_dir).running()


async def test_a_data_folder_that_cannot_be_made_is_said_plainly(data_dir: Path) -> None:
    (data_dir / "file").write_text("")

    with pytest.raises(DevflowError) as refusal:
        await open_embedded(data_dir / "file" / "below")

    assert refusal.value.code == "database_unavailable"
    assert "DEVFLOW_DATA_DIR" in refusal.value.recovery_hint


async def test_a_data_folder_that_a_shell_would_read_otherwise_is_refused(data_dir: Path) -> None:
    with pytest.raises(DevflowError) as refusal:
        await open_embedded(data_dir / "$(touch here)")

    assert refusal.value.code == "database_unavailable"
    assert list(data_dir.iterdir()) == []


async def test_opening_a_running_server_is_fast(data_dir: Path) -> None:
    first = await open_embedded(data_dir)

    began = time.monotonic()
    second = await open_embedded(data_dir)
    seconds = time.monotonic() - began

    await second.close()
    await first.close()
    assert seconds < 2


@AS_ROOT
def test_root_keeps_the_mode_of_a_private_folder_and_goes_elsewhere(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    private = data_dir / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(installation, "_SHARED_HOME", data_dir / "shared")
    (data_dir / "shared").mkdir(mode=0o711)
    caplog.set_level("INFO")

    home = choose_home(private / "devflow", server_account())

    assert home.parent == data_dir / "shared"
    assert choose_home(private / "devflow", server_account()) == home
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert str(home) in caplog.text


@AS_ROOT
async def test_root_with_everything_private_runs_the_server_elsewhere_from_a_copy(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = data_dir / "private"
    private.mkdir(mode=0o700)
    installed = find_programs(server_account())
    shared = data_dir / "shared"
    monkeypatch.setattr(installation, "_SHARED_HOME", shared)
    monkeypatch.setattr(
        installation.Account, "can_run", lambda _, program: not program.is_relative_to(installed.parent)
    )
    old_umask = os.umask(0o077)

    try:
        server = await open_embedded(private / "devflow")
    finally:
        os.umask(old_umask)
    answer = await ask(server, "SELECT 1")
    executable = Path(f"/proc/{(server.home / 'data/postmaster.pid').read_text().split()[0]}/exe").readlink()
    await server.close()

    assert answer == 1
    assert executable.is_relative_to(shared)
    assert server.home.is_relative_to(shared)


def test_the_default_data_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    assert default_data_dir() == tmp_path / "devflow"
