"""The supervisor of one confined command: starts it, watches it, bounds its output, and leaves nothing of it behind.

Started by engine.workspace.launch as `python -I -S supervisor.py` with a minimal environment, so that neither its own
`/proc` entry nor its children's can show a secret of the engine's. On standard input comes one line of JSON, the order;
then standard input stays open for as long as the engine wants the command: its end (cancelled, or the engine was
killed) kills the command and every process that it started. On standard output goes one line of JSON, the outcome,
followed by the command's output.
"""

# ruff: noqa: PTH100, PTH101, PTH112, PTH114, PTH120, PTH123
# pathlib costs more start-up time than everything else here, once for each command
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))))

from engine.workspace.jail import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Order = dict[str, Any]

# Descriptors of the confined command: the shell that starts it can only name single digits.
GIT_FILE_FD = 8
STARTED_FD = 9
CHUNK = 1 << 16
TICK_SECONDS = 0.1
NICENESS = 5
OOM_SCORE = 500


class Output:
    """The first quarter and the last three quarters of what was written, within `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit // 4
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        """Take in more output, dropping from the middle what no longer fits."""
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._tail_limit + CHUNK:
            del self._tail[: -self._tail_limit]

    def kept(self) -> tuple[bytes, bytes, int]:
        """Return the head, the tail, and how many bytes between them were dropped."""
        if self._tail_limit < len(self._tail):
            del self._tail[: -self._tail_limit]
        return bytes(self._head), bytes(self._tail), self.total - len(self._head) - len(self._tail)


def main() -> int:
    """Carry out one order; the exit code says nothing, the outcome on standard output does."""
    order: Order = json.loads(_read_line(0))
    tree.become_subreaper()
    private = tempfile.mkdtemp(prefix="devflow-") if order["private_folder"] else None
    if private is not None:
        order["env"].update(HOME=private, TMPDIR=private)
    try:
        outcome, output = _supervise(order, private)
    finally:
        if private is not None:
            remove_folder(private)
    head, tail, cut = output.kept()
    outcome.update(head=len(head), tail=len(tail), cut=cut)
    report = json.dumps(outcome).encode() + b"\n" + head + tail
    try:
        while report:
            report = report[os.write(1, report) :]
    except BrokenPipeError:
        return 1  # the engine is gone; there is nobody to tell
    return 0


def remove_folder(folder: str) -> None:
    """Remove the private folder, also where the command took its own rights to a subfolder away."""

    def make_writable(function: object, path: str, error: object) -> None:
        for place in (os.path.dirname(path), path):
            inside = place == folder or place.startswith(folder + "/")
            if inside and os.path.isdir(place) and not os.path.islink(place):
                os.chmod(place, 0o700)

    # each pass opens up one more level of folders that were closed
    for _ in range(32):
        shutil.rmtree(folder, onerror=make_writable)
        if not os.path.lexists(folder):
            return


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(descriptor, CHUNK)
        if not data:
            raise SystemExit(2)  # cancelled before it began
        line += data
    return line


def _pipe() -> tuple[int, int]:
    """Return a pipe whose ends are well above the descriptors that the command gets; the reader does not block."""
    low_reader, low_writer = os.pipe()
    reader = fcntl.fcntl(low_reader, fcntl.F_DUPFD_CLOEXEC, 20)
    writer = fcntl.fcntl(low_writer, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(low_reader)
    os.close(low_writer)
    os.set_blocking(reader, False)
    return reader, writer


def _supervise(order: "Order", private: str | None) -> "tuple[dict[str, Any], Output]":
    wake, wake_writer = _pipe()
    os.set_blocking(wake_writer, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    started, started_writer = _pipe()
    output = Output(order["output_limit"])
    if order["sandlock"] is None:
        out, out_writer = _pipe()
    else:
        # sandlock keeps the descriptors of its child to itself, so the output comes through a named pipe
        os.mkfifo(f"{private}/.output", 0o600)
        out, out_writer = os.open(f"{private}/.output", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), -1
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        _become_command(order, private, out_writer, started_writer)
    os.close(started_writer)
    if out_writer >= 0:
        os.close(out_writer)
    outcome = _watch(order, child, out, wake, output, begin + order["timeout_seconds"])
    outcome["seconds"] = time.monotonic() - begin
    if not tree.kill_all(wake):
        outcome["error"] = "a process of the command could not be killed"
    _collect(out, output)
    outcome["started"] = _all(started)
    return outcome, output


def _watch(order: "Order", child: int, out: int, wake: int, output: Output, deadline: float) -> "dict[str, Any]":
    """Wait until the command ends or must end, and say how; killing is the caller's."""
    outcome: dict[str, Any] = {"exit_code": None, "timed_out": False, "cancelled": False, "killed": None}
    statuses: dict[int, int] = {}
    next_tick = time.monotonic() + TICK_SECONDS
    while True:
        now = time.monotonic()
        if now >= deadline:
            outcome["timed_out"] = True
            return outcome
        if now >= next_tick:
            outcome["killed"] = _excess(order)
            if outcome["killed"]:
                return outcome
            next_tick = now + TICK_SECONDS
        ready, _, _ = select.select([0, out, wake], [], [], max(0.0, min(deadline, next_tick) - now))
        if 0 in ready:
            outcome["cancelled"] = True
            return outcome
        if out in ready and not _collect(out, output, at_most=64):
            # everyone who could write has closed it (or, with a named pipe, nobody has opened it yet)
            select.select([0, wake], [], [], 0.005)
        if wake in ready:
            tree.drain(wake)
        tree.reap(statuses)
        if child in statuses:
            code = os.waitstatus_to_exitcode(statuses[child])
            outcome["exit_code"] = code if code >= 0 else 128 - code
            return outcome


def _excess(order: "Order") -> str | None:
    pids = tree.descendants(os.getpid())
    if len(pids) > order["limits"]["processes"]:
        return "processes"
    if tree.private_bytes(pids) > order["limits"]["memory_bytes"]:
        return "memory"
    return None


def _collect(descriptor: int, output: Output, at_most: int = 1 << 20) -> bool:
    """Read what is there, at most so many chunks; False at the end of the stream."""
    for _ in range(at_most):
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return True
        if not data:
            return False
        output.add(data)
    return True


def _all(descriptor: int) -> str:
    kept = Output(CHUNK)
    _collect(descriptor, kept)
    head, tail, _ = kept.kept()
    return (head + tail).decode(errors="replace")


def _become_command(order: "Order", private: str | None, out_writer: int, started_writer: int) -> None:
    """Never return: turn this freshly forked process into the command."""
    try:
        signal.set_wakeup_fd(-1)
        # Python ignores the last two, and a command would inherit that
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        _limit(order["limits"])
        if order["sandlock"] is not None:
            from engine.workspace.jail import landlock

            landlock.run(order, str(private), started_writer)
        os.dup2(out_writer, 1)
        os.dup2(out_writer, 2)
        if order["git_file"] is not None:
            os.dup2(_filled_pipe(order["git_file"].encode()), GIT_FILE_FD)
        os.dup2(started_writer, STARTED_FD)
        os.chdir(order["cwd"])
        os.execve(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - the order is the engine's
    except BaseException as error:  # noqa: BLE001 - the fork must end here, and the supervisor's reader is told why
        os.write(started_writer, f"error: {error}\n".encode())
    os._exit(126)


def _filled_pipe(data: bytes) -> int:
    reader, writer = _pipe()
    os.set_blocking(reader, True)
    os.write(writer, data)
    os.close(writer)
    return reader


def _limit(limits: "dict[str, int]") -> None:
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    os.nice(NICENESS)
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write(str(OOM_SCORE))


if __name__ == "__main__":
    raise SystemExit(main())
