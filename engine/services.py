"""What every part of the engine that acts needs: the settings, the database and the way to the repositories."""

from dataclasses import dataclass

from engine.ports import Remotes
from engine.settings import Settings
from engine.store.database import Database


@dataclass(frozen=True)
class Services:
    """One engine's surroundings; nothing of any run is in here."""

    settings: Settings
    database: Database
    remotes: Remotes
