"""Where the rest of the engine gets its sandbox: `choose` picks the strongest one that works here, and proves it."""

from engine.domain.errors import DevflowError
from engine.workspace import selftest
from engine.workspace.confine import MODES, Command, Sandbox, make
from engine.workspace.launch import CommandResult, Limits
from engine.workspace.toolchain import Toolchain

__all__ = ["MODES", "Command", "CommandResult", "Limits", "Sandbox", "Toolchain", "choose"]

IN_ORDER = ("bwrap", "sandlock")

_proven: dict[tuple[str, Toolchain, Limits], Sandbox] = {}


async def choose(mode: str, tools: Toolchain, limits: Limits | None = None) -> Sandbox:
    """Return the sandbox of that mode (`auto`, `bwrap`, `sandlock`, `none`) after its self-test has passed.

    `auto` takes bubblewrap, else sandlock, and never `none`. A pass counts for the life of this process. Raises
    `sandbox_unavailable` with every part that failed, `config_invalid` for another mode.
    """
    limits = limits or Limits()
    if mode == "none":
        return make(mode, tools, limits)
    reasons = []
    for name in IN_ORDER if mode == "auto" else (mode,):
        try:
            return await _prove(name, tools, limits)
        except DevflowError as error:
            if error.code != "sandbox_unavailable":
                raise
            reasons.append(error.message)
    raise DevflowError(
        "sandbox_unavailable",
        "; ".join(reasons),
        recovery_hint="install bubblewrap, or use a Linux with Landlock ABI 6 (6.12 or later); "
        "--sandbox none runs everything unconfined",
        details={"reasons": reasons},
    )


async def _prove(name: str, tools: Toolchain, limits: Limits) -> Sandbox:
    key = (name, tools, limits)
    if key not in _proven:
        sandbox = make(name, tools, limits)
        broken = await selftest.failures(sandbox)
        if broken:
            raise DevflowError("sandbox_unavailable", f"{name} failed its self-test: {', '.join(broken)}")
        _proven[key] = sandbox
    return _proven[key]
