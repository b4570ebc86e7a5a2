"""What a confined command cannot reach: files, environments, sockets and processes outside."""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandboxes import CONFINED, make_worktree, run, run_python, sandbox

pytestmark = pytest.mark.parametrize("name", CONFINED)


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    return make_worktree(tmp_path)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("the secret")
    (folder / "secret").chmod(0o600)
    return folder


@pytest.fixture
def token() -> str:
    return secrets.token_hex(16)


@pytest.fixture
async def bystander(token: str) -> asyncio.subprocess.Process:
    """A process outside, with a secret in its environment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-c", "import sys; sys.stdin.read()"),
        env={"SECRET": token},
        stdin=asyncio.subprocess.PIPE,
    )
    yield process
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


@pytest.mark.parametrize("network", [False, True])
async def test_a_command_sees_only_the_minimal_environment(
    name: str, worktree: Path, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:password@proxy.example")

    result = await run(sandbox(name), worktree, "env", network=network)

    assert result.exit_code == 0
    assert "sk-secret" not in result.output
    assert "password" not in result.output
    names = {line.partition("=")[0] for line in result.output.splitlines()}
    assert {"PATH", "HOME", "TMPDIR", "LANG", "TERM"} <= names
    assert "PYTEST_CURRENT_TEST" not in names


@pytest.mark.parametrize("network", [False, True])
async def test_no_environment_of_another_process_can_be_read(
    name: str, worktree: Path, token: str, bystander: asyncio.subprocess.Process, network: bool
) -> None:
    result = await run(
        sandbox(name),
        worktree,
        f"cat /proc/1/environ /proc/{bystander.pid}/environ /proc/{os.getpid()}/environ /proc/[0-9]*/environ; true",
        network=network,
    )

    assert token not in result.output
    assert "PYTEST_CURRENT_TEST" not in result.output
    assert str(Path.home()) + ":" not in result.output


@pytest.mark.parametrize("network", [False, True])
async def test_files_outside_cannot_be_read(name: str, worktree: Path, outside: Path, network: bool) -> None:
    result = await run(sandbox(name), worktree, f"cat {outside}/secret; ls {outside}; true", network=network)

    assert "the secret" not in result.output
    assert "secret\n" not in result.output.replace(f"{outside}/secret", "")


async def test_the_home_folder_and_the_password_hashes_cannot_be_read(name: str, worktree: Path) -> None:
    result = await run(
        sandbox(name), worktree, f"ls -A {Path.home()}; cat /etc/shadow /etc/gshadow; ls /etc/ssl/private"
    )

    assert result.exit_code != 0
    # a toolchain inside the home folder is shown by itself: of the home, only the names on the way to it
    home = Path.home()
    shown = (*sandbox(name).tools.folders, worktree)
    inside = {place.relative_to(home).parts[0] for place in shown if place.is_relative_to(home)}
    visible = {line for line in result.output.splitlines() if ":" not in line}
    assert visible <= inside


async def test_a_symbolic_link_leads_nowhere(name: str, worktree: Path, outside: Path) -> None:
    (worktree / "link").symlink_to(outside / "secret")
    (worktree / "folder").symlink_to(outside)

    result = await run(
        sandbox(name), worktree, f"cat link folder/secret; echo x > folder/new; ln {outside}/secret hard; cat hard"
    )

    assert result.exit_code != 0
    assert "the secret" not in result.output
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


async def test_nothing_outside_can_be_written_moved_or_removed(name: str, worktree: Path, outside: Path) -> None:
    secret = outside / "secret"

    await run(
        sandbox(name),
        worktree,
        f"echo x > {outside}/new; echo x > {secret}; rm -f {secret}; mv {outside} here; mkdir {outside}/sub",
    )

    assert secret.read_text() == "the secret"
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


async def test_modes_and_times_outside_cannot_be_changed(name: str, worktree: Path, outside: Path) -> None:
    secret = outside / "secret"
    os.utime(secret, (1000, 1000))
    (worktree / "link").symlink_to(secret)

    await run_python(
        sandbox(name),
        worktree,
        f"""
import os
for attempt in (
    lambda: os.chmod({str(secret)!r}, 0o777),
    lambda: os.chmod("link", 0o777),
    lambda: os.chmod("../outside/secret", 0o777),
    lambda: os.chmod({str(outside)!r}, 0o777),
    lambda: os.utime({str(secret)!r}),
    lambda: os.utime("link", ns=(1, 1)),
    lambda: os.setxattr({str(secret)!r}, "user.x", b"1"),
    lambda: os.chown({str(secret)!r}, 12345, 12345),
):
    try:
        attempt()
    except OSError:
        pass
""",
    )

    status = secret.stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_mtime == 1000
    assert status.st_uid == os.getuid()
    assert os.listxattr(secret) == []


async def test_a_readable_file_outside_keeps_its_mode(name: str, worktree: Path, outside: Path) -> None:
    program = (
        f"import os\nfd = os.open({str(outside / 'secret')!r}, os.O_RDONLY)\nprint('opened')\n"
        "try:\n os.fchmod(fd, 0o777)\nexcept OSError as error:\n print(error.errno)"
    )

    result = await run_python(sandbox(name), worktree, program, readable=(outside,))

    assert result.output.startswith("opened\n")
    assert (outside / "secret").stat().st_mode & 0o777 == 0o600


async def test_modes_and_times_inside_can_be_changed(name: str, worktree: Path) -> None:
    result = await run(
        sandbox(name),
        worktree,
        "set -e; printf '#!/bin/sh\\necho ran\\n' > tool; chmod +x tool; ./tool; touch -d @1000 tool; stat -c %Y tool;"
        " ln -s nowhere dangling; touch -h -d @2000 dangling; stat -c %Y dangling; cp -p tool copy; stat -c %a-%Y copy;"
        " mkdir d; cd d; touch -d @3000 ../tool; stat -c %Y ../tool; chown $(id -u) ../tool",
    )

    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == ["ran", "1000", "2000", "755-1000", "3000"]


async def test_the_worktrees_git_file_is_out_of_reach(name: str, worktree: Path) -> None:
    before = (worktree / ".git").read_text()

    await run(sandbox(name), worktree, "echo x > .git; rm -f .git; mv .git other; ln -sf /etc/passwd .git; mkdir .git")

    assert (worktree / ".git").read_text() == before
    assert not (worktree / ".git").is_symlink()


async def test_kernel_settings_cannot_be_opened_for_writing(name: str, worktree: Path) -> None:
    # opened only: what a failing sandbox let through would hit the machine that the tests run on
    program = (
        "import glob, os\n"
        "for path in ['/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/vm/drop_caches',"
        " '/proc/sys/kernel/modprobe', '/proc/irq/default_smp_affinity', *glob.glob('/sys/kernel/*')]:\n"
        " try:\n  os.close(os.open(path, os.O_WRONLY)); print(path)\n"
        " except OSError: pass\n"
    )

    result = await run_python(sandbox(name), worktree, program)

    assert (result.exit_code, result.output) == (0, "")


async def test_a_command_has_no_privileges(name: str, worktree: Path) -> None:
    result = await run(sandbox(name), worktree, "grep -E 'Cap(Prm|Eff|Amb)|NoNewPrivs' /proc/self/status")

    values = dict(line.split(":\t") for line in result.output.splitlines())
    assert values == {"CapPrm": "0" * 16, "CapEff": "0" * 16, "CapAmb": "0" * 16, "NoNewPrivs": "1"}


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[dict[str, object]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        hidden = "devflow-" + secrets.token_hex(8)
        path = tmp_path / ".s.PGSQL.5432"
        named.bind(str(path))
        abstract.bind("\0" + hidden)
        udp.bind(("127.0.0.1", 0))
        for listener in (tcp, named, abstract, udp):
            listener.setblocking(False)
        named.listen()
        abstract.listen()
        yield {"tcp": tcp, "named": named, "abstract": abstract, "udp": udp, "path": str(path), "hidden": hidden}


def _client(listeners: dict[str, object]) -> str:
    tcp, udp = listeners["tcp"], listeners["udp"]
    assert isinstance(tcp, socket.socket)
    assert isinstance(udp, socket.socket)
    return f"""
import socket
def connect(family, address):
    client = socket.socket(family, socket.SOCK_STREAM)
    client.settimeout(5)
    client.connect(address)
for name, attempt in {{
    "tcp": lambda: connect(socket.AF_INET, {tcp.getsockname()!r}),
    "named": lambda: connect(socket.AF_UNIX, {listeners["path"]!r}),
    "abstract": lambda: connect(socket.AF_UNIX, "\\0" + {listeners["hidden"]!r}),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", {udp.getsockname()!r}),
}}.items():
    try:
        attempt()
    except OSError:
        continue
    print(name)
"""


def _arrived(listener: object) -> bool:
    assert isinstance(listener, socket.socket)
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(1)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def test_no_socket_outside_can_be_reached(name: str, worktree: Path, listeners: dict[str, object]) -> None:
    result = await run_python(sandbox(name), worktree, _client(listeners))

    assert result.exit_code == 0
    assert not [kind for kind in ("tcp", "named", "abstract", "udp") if _arrived(listeners[kind])]


async def test_with_network_the_database_socket_stays_out_of_reach(
    name: str, worktree: Path, listeners: dict[str, object]
) -> None:
    result = await run_python(sandbox(name), worktree, _client(listeners), network=True)

    assert "tcp" in result.output.splitlines()
    assert _arrived(listeners["tcp"])
    assert not _arrived(listeners["named"])


async def test_processes_outside_can_neither_be_signalled_nor_traced(
    name: str, worktree: Path, bystander: asyncio.subprocess.Process
) -> None:
    program = (
        "import ctypes, os, signal\n"
        f"pid = {bystander.pid}\n"
        "try:\n os.kill(pid, signal.SIGTERM); print('signalled')\nexcept OSError: pass\n"
        "if ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0: print('traced')\n"
        "try:\n open(f'/proc/{pid}/mem', 'rb'); print('opened')\nexcept OSError: pass\n"
    )

    result = await run_python(sandbox(name), worktree, program)

    assert (result.exit_code, result.output) == (0, "")
    assert bystander.returncode is None


async def test_no_terminal_can_be_typed_into(name: str, worktree: Path) -> None:
    program = (
        "import fcntl, termios\n"
        "for name in ('/dev/tty', '/dev/stdin'):\n"
        " try:\n  fcntl.ioctl(open(name), termios.TIOCSTI, b'x'); print(name)\n"
        " except OSError: pass\n"
    )

    result = await run_python(sandbox(name), worktree, program)

    assert (result.exit_code, result.output) == (0, "")
