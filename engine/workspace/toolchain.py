"""What a confined command may read besides its worktree, and the environment that it gets.

A toolchain is a handful of read-only folders and a search path. One that lies in a private home folder is shown by
itself, without the rest of that home.
"""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.domain.errors import DevflowError

SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Nothing here holds a secret: private keys (ssl/private, pki/tls/private), shadow and tools' credentials stay out.
SYSTEM_FILES = tuple(
    f"/etc/{name}"
    for name in (
        "alternatives",
        "ca-certificates",
        "debian_version",
        "group",
        "host.conf",
        "hosts",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "localtime",
        "lsb-release",
        "magic",
        "mime.types",
        "nsswitch.conf",
        "os-release",
        "passwd",
        "pki/ca-trust/extracted",
        "pki/tls/certs",
        "protocols",
        "services",
        "ssl/certs",
        "ssl/openssl.cnf",
        "timezone",
    )
)
NETWORK_FILES = ("/etc/resolv.conf", "/etc/gai.conf")
NEVER_SHOWN = ("/", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var", "/dev")  # noqa: S108 - refused

_KEPT = ("TZ",)
_KEPT_WITH_NETWORK = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "GOPROXY",
)


@dataclass(frozen=True)
class Toolchain:
    """Read-only folders, absolute, and the search path of programs within them and the system."""

    folders: tuple[Path, ...]
    path: tuple[str, ...]

    @classmethod
    def detect(cls, extra: Iterable[Path] = ()) -> "Toolchain":
        """Return the active virtual environment, this interpreter and the operator's `extra` folders.

        Raises `config_invalid` for an extra folder that does not exist or would show a home folder or the whole system.
        """
        found: list[Path] = []
        search: list[str] = []
        for folder in extra:
            _check(folder)
            _add(found, search, folder)
        own = [os.environ.get("VIRTUAL_ENV", ""), sys.prefix, sys.base_prefix, *_links(Path(sys.executable))]
        for name in own:
            folder = Path(name)
            if name and folder.is_absolute() and folder.is_dir() and not _too_much(folder):
                _add(found, search, folder)
        return cls(tuple(found), (*search, *SYSTEM_PATH))

    @property
    def python(self) -> str:
        """A Python that runs inside: this interpreter, where its folder is shown, else the system's."""
        inside = any(Path(sys.executable).is_relative_to(folder) for folder in (*self.folders, Path("/usr")))
        return sys.executable if inside else "/usr/bin/python3"

    def environment(self, *, network: bool) -> dict[str, str]:
        """Return the environment of a confined command, but for its private folder (HOME and TMPDIR)."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        if network:
            # an address with a user in it is a credential
            kept |= {
                name: os.environ[name]
                for name in _KEPT_WITH_NETWORK
                if name in os.environ and "@" not in os.environ[name]
            }
        return {
            **kept,
            "PATH": ":".join(self.path),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            # the system's own git configuration may hold credentials, and is not readable in every sandbox
            "GIT_CONFIG_NOSYSTEM": "1",
            # a check must not leave files that look like the agent's work
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def system_files(*, network: bool) -> list[str]:
    """Return the files and folders of /etc that exist here and that a command may read."""
    names = [*SYSTEM_FILES, *(NETWORK_FILES if network else ())]
    return [name for name in names if Path(name).exists()]


def shell() -> str:
    """Return the shell that command lines are written for."""
    return shutil.which("bash", path="/usr/bin:/bin") or "/bin/sh"


def _add(found: list[Path], search: list[str], folder: Path) -> None:
    for candidate in (folder, folder.resolve()):
        if candidate not in found and not str(candidate).startswith("/usr/") and str(candidate) != "/usr":
            found.append(candidate)
    binaries = folder / "bin" if (folder / "bin").is_dir() else folder
    if str(binaries) not in (*search, *SYSTEM_PATH):
        search.append(str(binaries))


def _links(executable: Path) -> list[str]:
    """Return the installation folders through which the interpreter's symbolic links go."""
    folders = []
    for _ in range(16):
        if not executable.is_symlink():
            break
        executable = Path(os.path.normpath(executable.parent / executable.readlink()))
        if executable.parent.name == "bin":
            folders.append(str(executable.parent.parent))
    return folders


def _too_much(folder: Path) -> bool:
    """Whether showing the folder would show a home folder, or a system folder with more than programs in it."""
    real = folder.resolve()
    home = Path.home().resolve()
    return str(real) in NEVER_SHOWN or real == home or real in home.parents


def _check(folder: Path) -> None:
    if not folder.is_absolute() or not folder.is_dir():
        raise DevflowError("config_invalid", f"the toolchain folder {folder} is not an existing folder")
    if _too_much(folder):
        raise DevflowError(
            "config_invalid",
            f"the toolchain folder {folder} would show more than a toolchain",
            recovery_hint="name the folder of the tool itself",
        )
