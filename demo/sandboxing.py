"""Where no sandbox works, the demo alone goes on without one: its agent is a recording that is part of Devflow."""

import asyncio

from app.local import console
from engine.domain.errors import DevflowError
from engine.workspace import sandbox


def sandbox_environment() -> dict[str, str]:
    """Return nothing where commands can be confined here, else DEVFLOW_SANDBOX=none, and say so loudly."""
    try:
        asyncio.run(sandbox.choose("auto", sandbox.Toolchain.detect()))
    except DevflowError as error:
        if error.code != "sandbox_unavailable":
            raise
        console.tell(f"WARNING: no sandbox works on this machine: {error.message}")
        console.tell("WARNING: the recorded agent of this demo runs WITHOUT ONE. Devflow never does that by itself.")
        return {"DEVFLOW_SANDBOX": "none"}
    return {}
