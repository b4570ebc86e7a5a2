"""What an operator can set. The app reads it from the environment; the engine only ever sees this value."""

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from engine.domain.config import CONFIG_PATH


@dataclass(frozen=True)
class Settings:
    """Settings of one engine. Times are seconds; `database_url` None means the embedded Postgres in `data_dir`.

    `config_path` is where a repository's configuration lies, always in a folder that agents may not write to.
    """

    data_dir: Path
    database_url: str | None = None
    workspace_root: Path | None = None
    openai_api_key: str | None = field(default=None, repr=False)
    openai_base_url: str | None = None
    model: str | None = None
    config_path: str = CONFIG_PATH
    budget_usd: Decimal | None = None
    price_file: Path | None = None
    sandbox: str = "auto"
    toolchain_paths: tuple[Path, ...] = ()
    heartbeat_seconds: float = 5
    worker_dead_after_seconds: float = 30
    sweep_seconds: float = 3
    pause_grace_seconds: float = 5
    shutdown_drain_seconds: float = 10
    worker_slots: int = 4
    max_concurrent_runs: int = 8
    max_concurrent_runs_per_repository: int = 2
    retry_max_attempts: int = 5
    retry_initial_delay: float = 0.5

    @property
    def workspaces(self) -> Path:
        """Folder that holds a folder a run."""
        return self.workspace_root or self.data_dir / "workspaces"

    @property
    def mirrors(self) -> Path:
        """Folder that holds a bare mirror a repository."""
        return self.data_dir / "mirrors"

    @property
    def reports(self) -> Path:
        """Folder that holds the final reports, by run id."""
        return self.data_dir / "reports"
