"""What this machine has and lacks: the findings of `devflow doctor`, each found by trying."""

import platform
import sys
from dataclasses import dataclass

from engine import models
from engine.domain.errors import DevflowError
from engine.settings import Settings
from engine.store import migrate
from engine.store.embedded import open_embedded
from engine.workspace import git, sandbox


@dataclass(frozen=True)
class Finding:
    """One thing that was tried; a run is possible without those that are not `needed`."""

    name: str
    ok: bool
    text: str
    needed: bool = True


async def examine(settings: Settings) -> list[Finding]:
    """Try everything that a run needs and return what was found."""
    return [
        _platform(),
        await _git(),
        await _database(settings),
        *[await _sandbox(settings, mode) for mode in ("bwrap", "sandlock")],
        await _any_sandbox(settings),
        _model(settings),
        _prices(settings),
    ]


def _platform() -> Finding:
    ok = sys.platform == "linux" and sys.version_info >= (3, 11)
    return Finding("platform", ok, f"{platform.system()} {platform.release()}, Python {platform.python_version()}")


async def _git() -> Finding:
    try:
        await git.check_version()
        return Finding("git", True, ".".join(map(str, await git.version())))
    except DevflowError as error:
        return Finding("git", False, f"{error.message}; {error.recovery_hint}")


async def _database(settings: Settings) -> Finding:
    name = "database" if settings.database_url else "embedded database"
    try:
        if settings.database_url is not None:
            revision = await migrate.check(settings.database_url)
        else:
            embedded = await open_embedded(settings.data_dir)
            try:
                revision = await migrate.check(embedded.url)
            finally:
                await embedded.close()
    except DevflowError as error:
        return Finding(name, False, f"{error.message}; {error.recovery_hint}")
    return Finding(name, True, f"answers, schema {revision or 'not made yet'}")


async def _sandbox(settings: Settings, mode: str) -> Finding:
    try:
        chosen = await sandbox.choose(mode, sandbox.Toolchain.detect(settings.toolchain_paths))
    except DevflowError as error:
        return Finding(f"sandbox {mode}", False, error.message, needed=False)
    return Finding(f"sandbox {mode}", True, f"{chosen.name} confines", needed=False)


async def _any_sandbox(settings: Settings) -> Finding:
    try:
        chosen = await sandbox.choose("auto", sandbox.Toolchain.detect(settings.toolchain_paths))
    except DevflowError as error:
        return Finding("sandbox", False, f"none works; {error.recovery_hint}")
    return Finding("sandbox", True, f"runs use {chosen.name}")


def _model(settings: Settings) -> Finding:
    state = models.availability(settings, None)["openai"]
    if state is True:
        return Finding("model server", True, settings.openai_base_url or "OpenAI's own", needed=False)
    return Finding("model server", False, f"{state}; only recorded runs are possible", needed=False)


def _prices(settings: Settings) -> Finding:
    try:
        table = models.load_prices(settings, {})
    except DevflowError as error:
        return Finding("prices", False, error.message)
    return Finding("prices", True, f"{len(table.prices)} models have a price")
