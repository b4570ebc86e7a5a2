"""A private Postgres cluster on this machine: its files and its processes.

Blocking code beneath `embedded`, which runs it in threads; `installation` says where things are.
"""

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from engine.atomic_file import write_file
from engine.store.installation import Account, failed, run_as

ROLE = "devflow"
DATABASE = "devflow"

_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_MAX = 107  # bytes of sockaddr_un.sun_path on Linux, without the closing NUL
_START_SECONDS = 60
_DETACH_SECONDS = 10
_LOG_BYTES_MAX = 1_000_000


class Cluster:
    """One cluster in `home`; callers serialise all methods over processes by a lock of their own."""

    def __init__(self, home: Path, programs: Path, account: Account, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.data = home / "data"
        self.log = self.data / "server.log"
        self.pgpass = home / "pgpass"
        self._programs = programs
        self._account = account
        self._settings = dict(settings or {})

    @property
    def socket_folder(self) -> Path:
        """The folder of the server's socket: in `home`, or under /tmp where that path is too long for a socket."""
        folder = self.home / "socket"
        if len(os.fsencode(folder / _SOCKET_NAME)) <= _SOCKET_PATH_MAX:
            return folder
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path("/tmp") / f"devflow-{self._account.uid}-{name}"  # noqa: S108 - made 0700 and checked below

    def create(self) -> None:
        """Make the cluster, its role and its database where missing; a creation that was cut short starts anew."""
        if self.data.exists():
            if not self.pgpass.exists():  # somebody deleted it: nobody can log in until the role has a new one
                self.stop()
                self.single_user([f"ALTER ROLE {ROLE} PASSWORD '{self._new_password()}'"])
            return
        fresh = Cluster(self.home, self._programs, self._account)
        fresh.data = self.home / "data.new"
        if fresh.data.exists():
            shutil.rmtree(fresh.data)
        fresh.data.mkdir(mode=0o700)
        self._account.own(fresh.data)
        fresh._program("initdb", "-U", "postgres", "-A", "reject", "-E", "UTF8", "--locale=C", "-D", str(fresh.data))
        conf = fresh.data / "postgresql.conf"
        fresh._write(conf, f"{conf.read_text()}include = 'devflow.conf'\n")
        fresh._configure()
        # The superuser cannot log in at all: maintenance is `postgres --single` on a stopped server.
        self._write(fresh.data / "pg_hba.conf", f"local all {ROLE} scram-sha-256\nlocal all all reject\n")
        options = "LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
        fresh.single_user(
            [
                f"CREATE ROLE {ROLE} {options} PASSWORD '{self._new_password()}'",
                f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
            ]
        )
        fresh.data.rename(self.data)

    def single_user(self, statements: list[str]) -> None:
        """Run statements, one line each, as superuser on the stopped cluster."""
        script = "".join(f"{statement}\n" for statement in statements)
        output = self._program(
            "postgres", "--single", "-j", "-D", str(self.data), "postgres", stdin=script.replace("\n", ";\n\n")
        )
        if "ERROR:" in output:  # single-user mode exits with 0 all the same
            raise failed("the database could not be prepared", output)

    def running(self) -> bool:
        """Whether the postmaster of this cluster is alive; one that was killed and not yet reaped is not."""
        pid_file = self._pid_file()
        if not pid_file:
            return False
        try:
            arguments = Path(f"/proc/{int(pid_file[0])}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return False
        return os.fsencode(self.data) in arguments

    def start(self) -> None:
        """Start the server unless it runs."""
        if self.running():
            return
        self._clear_dead_postmaster()
        self._configure()
        self._make_socket_folder()
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".old"))
        self._program("pg_ctl", "start", "-w", "-t", str(_START_SECONDS), "-l", str(self.log), "-D", str(self.data))

    def stop(self) -> None:
        """Stop the server in order if it runs: sessions are cut off, what was committed is on disk."""
        if self.running():
            self._program("pg_ctl", "stop", "-w", "-t", str(_START_SECONDS), "-m", "fast", "-D", str(self.data))

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _clear_dead_postmaster(self) -> None:
        # Postgres asks only whether the number in postmaster.pid is in use, which an unreaped zombie or, after a
        # reboot, any other process answers with yes. The shared memory that it names tells whether orphans still write.
        lines = self._pid_file()
        table = Path("/proc/sysvipc/shm")
        if not table.exists():
            return
        segment = lines[6].split()[-1] if len(lines) > 6 and lines[6].split() else None
        deadline = time.monotonic() + _DETACH_SECONDS
        while any(row.split()[1] == segment and int(row.split()[6]) for row in table.read_text().splitlines()[1:]):
            if time.monotonic() > deadline:
                raise failed("processes of a killed database server still run", "", f"end them: see {self.data}")
            time.sleep(0.02)
        for path in (self.data / "postmaster.pid", self.socket_folder / f"{_SOCKET_NAME}.lock"):
            path.unlink(missing_ok=True)

    def _configure(self) -> None:
        folder = str(self.socket_folder).replace("'", "''").replace('"', '""')
        settings = {
            "listen_addresses": "''",
            "unix_socket_directories": f"'\"{folder}\"'",
            "unix_socket_permissions": "0700",
            "log_checkpoints": "off",
            **self._settings,
        }
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self._write(self.data / "devflow.conf", text)

    def _make_socket_folder(self) -> None:
        folder = self.socket_folder
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), self._account.uid):
            raise failed(f"{folder} belongs to somebody else", "", "remove it, or use a shorter DEVFLOW_DATA_DIR")
        folder.chmod(0o700)
        self._account.own(folder)

    def _new_password(self) -> str:
        password = os.urandom(24).hex()
        write_file(self.pgpass, f"*:*:*:{ROLE}:{password}\n".encode(), 0o600)
        return password

    def _write(self, path: Path, text: str) -> None:
        write_file(path, text.encode(), 0o600)
        self._account.own(path)

    def _program(self, name: str, *arguments: str, stdin: str = "") -> str:
        ended = run_as(self._account, [str(self._programs / name), *arguments], stdin)
        if ended.returncode != 0:
            log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            raise failed(f"{name} ended with exit code {ended.returncode}", f"{ended.stdout}\n{log}")
        return ended.stdout
