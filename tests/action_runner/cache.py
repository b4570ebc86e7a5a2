"""What this runner knows of the cache action: a hit brings an environment that has what this checkout's own has."""

import atexit
import functools
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

RESTORE = "actions/cache/restore"
SAVE = "actions/cache/save"


@functools.cache
def environment() -> Path:
    """Return a virtual environment, made once a process, that sees the packages of the one in which the tests run."""
    folder = Path(tempfile.mkdtemp(prefix="devflow-action-cache-")) / "venv"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    # it must be readable by whoever the step's database server runs as
    folder.parent.chmod(0o755)
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-I", "-m", "venv", "--without-pip", str(folder)], check=True, timeout=240)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "complete").touch()
    return folder


def restore(path: Path) -> None:
    """Bring the environment to the path that the action asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(environment())
