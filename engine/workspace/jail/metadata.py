"""Answers the system calls that change a file's metadata, in place of the kernel, within the writable folders only.

Landlock has no right for them, so under sandlock a command could otherwise make the user's home folder readable to
everyone, or unusable. The file is opened here once, without rights (`O_PATH`); where it is is asked of that descriptor,
and the change is made through that descriptor, so that the command cannot exchange the path in between.
"""

# ruff: noqa: PTH101, PTH115 - these work on descriptors, which pathlib does not know
import ctypes
import errno
import os
import platform

from sandlock import ExceptionPolicy, Handler, NotifAction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandlock import HandlerCtx

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
PATH_MAX = 4096
TIMES_SIZE = 32
NO_ID = 0xFFFFFFFF
WITHOUT_SETUID = 0o1777

_libc = ctypes.CDLL(None, use_errno=True)

# System call numbers: the newer calls have the same one everywhere.
_COMMON = {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}
_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        **_COMMON,
        "chmod": 90,
        "fchmod": 91,
        "chown": 92,
        "fchown": 93,
        "lchown": 94,
        "utime": 132,
        "setxattr": 188,
        "lsetxattr": 189,
        "fsetxattr": 190,
        "removexattr": 197,
        "lremovexattr": 198,
        "fremovexattr": 199,
        "utimes": 235,
        "fchownat": 260,
        "futimesat": 261,
        "fchmodat": 268,
        "utimensat": 280,
    },
    "aarch64": {
        **_COMMON,
        "setxattr": 5,
        "lsetxattr": 6,
        "fsetxattr": 7,
        "removexattr": 14,
        "lremovexattr": 15,
        "fremovexattr": 16,
        "fchmod": 52,
        "fchmodat": 53,
        "fchownat": 54,
        "fchown": 55,
        "utimensat": 88,
    },
}


class _Answer(Handler):
    """Answers one system call with what `act` does; its `OSError` becomes the call's own."""

    on_exception = ExceptionPolicy.DENY_EPERM

    def __init__(self, act: "Callable[[HandlerCtx], None]") -> None:
        self._act = act

    def handle(self, ctx: "HandlerCtx") -> NotifAction:
        """Do it for the command, or refuse it."""
        try:
            self._act(ctx)
        except OSError as error:
            return NotifAction.errno(error.errno or errno.EPERM)
        return NotifAction.returns(0)


def handlers(writable: list[str]) -> "list[tuple[int, _Answer]]":
    """Return the handlers, by system call number, that keep changes of metadata within the writable folders.

    Raises `OSError` on a machine whose system call numbers are not known here.
    """
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None:
        raise OSError(errno.ENOSYS, f"no system call numbers for {platform.machine()}")
    roots = tuple(writable)

    def chmod(ctx: "HandlerCtx") -> None:
        _chmod(_open(ctx, AT_FDCWD, ctx.args[0], True, roots), ctx.args[1])

    def fchmod(ctx: "HandlerCtx") -> None:
        _chmod(_open(ctx, _signed(ctx.args[0]), 0, True, roots), ctx.args[1])

    def fchmodat(ctx: "HandlerCtx") -> None:
        _chmod(_open(ctx, _signed(ctx.args[0]), ctx.args[1], True, roots), ctx.args[2])

    def fchmodat2(ctx: "HandlerCtx") -> None:
        if ctx.args[3] & AT_SYMLINK_NOFOLLOW:
            raise OSError(errno.EOPNOTSUPP, "a symbolic link has no mode")
        fchmodat(ctx)

    def utimensat(ctx: "HandlerCtx") -> None:
        follow = not ctx.args[3] & AT_SYMLINK_NOFOLLOW
        times = ctx.read(ctx.args[2], TIMES_SIZE) if ctx.args[2] else None
        if ctx.args[2] and times is None:
            raise OSError(errno.EFAULT, "unreadable times")
        _utimens(_open(ctx, _signed(ctx.args[0]), ctx.args[1], follow, roots), times)

    def own(first: int) -> "Callable[[HandlerCtx], None]":
        def chown(ctx: "HandlerCtx") -> None:
            # Without privileges the owner can only stay what it is, and then there is nothing to do.
            user, group = ctx.args[first] & NO_ID, ctx.args[first + 1] & NO_ID
            if user not in (NO_ID, os.getuid()) or group not in (NO_ID, os.getgid()):
                raise PermissionError(errno.EPERM, "owners cannot be changed")

        return chown

    def refuse(code: int) -> "Callable[[HandlerCtx], None]":
        def refused(ctx: "HandlerCtx") -> None:
            raise OSError(code, "refused")

        return refused

    acts: dict[str, Callable[[HandlerCtx], None]] = {
        "chmod": chmod,
        "fchmod": fchmod,
        "fchmodat": fchmodat,
        "fchmodat2": fchmodat2,
        "utimensat": utimensat,
        "chown": own(1),
        "lchown": own(1),
        "fchown": own(1),
        "fchownat": own(2),
        **dict.fromkeys(("utime", "utimes", "futimesat"), refuse(errno.ENOSYS)),
        **dict.fromkeys(("setxattrat", "removexattrat", "file_setattr"), refuse(errno.ENOSYS)),
        **dict.fromkeys(("setxattr", "lsetxattr", "fsetxattr"), refuse(errno.EOPNOTSUPP)),
        **dict.fromkeys(("removexattr", "lremovexattr", "fremovexattr"), refuse(errno.EOPNOTSUPP)),
    }
    return [(number, _Answer(acts[name])) for name, number in numbers.items()]


def _signed(argument: int) -> int:
    """Return a descriptor argument as the kernel reads it: the low 32 bits, signed."""
    return ctypes.c_int32(argument & NO_ID).value


def _open(ctx: "HandlerCtx", directory: int, address: int, follow: bool, roots: tuple[str, ...]) -> int:
    """Return an `O_PATH` descriptor of what the call names, if that is in a writable folder; raises `OSError`."""
    base = f"/proc/{ctx.pid}/cwd" if directory == AT_FDCWD else f"/proc/{ctx.pid}/fd/{directory}"
    path = ctx.read_cstr(address, PATH_MAX) if address else ""
    if path is None:
        raise OSError(errno.EFAULT, "unreadable path")
    if not path:
        name, follow = base, True
    elif path.startswith("/proc/self/"):
        name = f"/proc/{ctx.pid}/" + path.removeprefix("/proc/self/")
    elif path.startswith("/dev/fd/"):
        name = f"/proc/{ctx.pid}/fd/" + path.removeprefix("/dev/fd/")
    else:
        name = path if path.startswith("/") else f"{base}/{path}"
    descriptor = os.open(name, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    place = os.readlink(f"/proc/self/fd/{descriptor}")
    if not any(place == root or place.startswith(root + "/") for root in roots):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "outside the writable folders")
    return descriptor


def _chmod(descriptor: int, mode: int) -> None:
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", mode & WITHOUT_SETUID)
    finally:
        os.close(descriptor)


def _utimens(descriptor: int, times: bytes | None) -> None:
    try:
        if _libc.utimensat(descriptor, b"", times, AT_EMPTY_PATH) != 0:
            raise OSError(ctypes.get_errno(), "cannot set the times")
    finally:
        os.close(descriptor)
