"""Who sits at the terminal. Locally nobody is authenticated; the name is what the person says or what git knows."""

import getpass
from pathlib import Path

from engine.workspace.source import user_email


async def actor(as_name: str | None, repository: Path) -> str:
    """Return `as_name`, else git's `user.email` as seen from the repository, else the login name."""
    name = (as_name or await user_email(repository) or getpass.getuser()).strip()
    return "".join(char for char in name if char.isprintable())[:200]
