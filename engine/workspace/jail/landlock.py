"""Run one command under sandlock (Landlock and seccomp), in a process that the supervisor forked for it.

What sandlock 0.9 does not confine is what Landlock itself leaves open: changing the mode, times, owner and attributes
of files that belong to the same user, anywhere. Those system calls are answered by `metadata` instead of the kernel.
"""

import ctypes
import json
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

PR_CAPBSET_DROP = 24
CAPABILITY_VERSION_3 = 0x20080522
LAST_CAPABILITY = 63
STARTED = "started"
# The new shell says that it is confined and running, then its output becomes the supervisor's named pipe.
START = f'exec 3>&1 >"$1" 2>&1; echo {STARTED} >&3; exec 3>&-; shift; exec "$@"'
# Any address but those of this host's own network services, which hand out cloud credentials.
ALL_NETWORK = ["tcp://*:*", "udp://*:*"]
LINK_LOCAL = ["169.254.0.0/16"]


def run(order: "dict[str, Any]", private: str, report: int) -> "NoReturn":
    """Run the order's command and end this process; `report` gets one line that says whether the command started."""
    confinement = order["sandlock"]
    # appended, so that nothing in there can stand before the standard library
    sys.path.append(confinement["site_packages"])
    import sandlock

    from engine.workspace.jail import metadata

    drop_capabilities()
    box = sandlock.Sandbox(
        fs_readable=confinement["readable"],
        fs_writable=[*confinement["writable"], private, "/dev/null"],
        fs_denied=confinement["denied"],
        net_allow=ALL_NETWORK if confinement["network"] else [],
        net_deny=LINK_LOCAL if confinement["network"] else [],
        max_processes=order["limits"]["processes"],
        clean_env=True,
        env=order["env"],
        cwd=order["cwd"],
        name=f"devflow-{os.getpid()}",
    )
    argv = ["/bin/sh", "-c", START, "sh", f"{private}/.output", *order["argv"]]
    result = box.run_with_handlers(argv, metadata.handlers([*confinement["writable"], private]))
    started = result.stdout.startswith(STARTED.encode())
    if started:
        os.write(report, STARTED.encode())
    else:
        reason = {"error": result.error, "stderr": result.stderr.decode(errors="replace")[-1000:]}
        os.write(report, f"error: sandlock did not start the command: {json.dumps(reason)}".encode())
    if result.reason == sandlock.ExitReason.KILLED:
        os._exit(128 + signal.SIGKILL)
    if result.reason == sandlock.ExitReason.SIGNALED:
        os._exit(min(255, 128 + result.signal))
    os._exit(result.exit_code if 0 <= result.exit_code <= 255 else 255)


def drop_capabilities() -> None:
    """Give up every privilege of root for this process and all that it starts; raises `OSError`."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(LAST_CAPABILITY + 1):
        # the kernel refuses the numbers that it does not know
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "cannot drop the capabilities")
