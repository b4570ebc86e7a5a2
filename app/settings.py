"""Settings as an operator gives them: environment variables, read once and handed to the engine as a value."""

from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.domain.errors import DevflowError
from engine.settings import Settings
from engine.store.embedded import default_data_dir


class Environment(BaseSettings):
    """What Devflow reads from the environment; names are `DEVFLOW_...` unless another tool owns them."""

    model_config = SettingsConfigDict(env_prefix="DEVFLOW_", extra="ignore")

    data_dir: Path | None = Field(
        default=None, description="Folder for everything Devflow keeps; default: `devflow` in the user's data folder."
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="A Postgres of 15 or later, `postgresql://user:password@host/database`; default: the embedded one.",
    )
    workspace_root: Path | None = Field(
        default=None, description="Folder for the runs' worktrees; default: `workspaces` in the data folder."
    )
    model: str | None = Field(default=None, description="Model for every persona, unless `--model` names one.")
    budget_usd: Decimal | None = Field(
        default=None, gt=0, description="Cap of a run in US dollars where neither the run nor its files set one."
    )
    price_file: Path | None = Field(default=None, description="YAML file with prices that replace built-in ones.")
    sandbox: Literal["auto", "bwrap", "sandlock", "none"] = Field(
        default="auto",
        description="How commands are confined where `--sandbox` does not say it; `none` is written into every report.",
    )
    toolchain: str = Field(
        default="", description="Further folders that confined commands may read and find programs in, split by `:`."
    )
    heartbeat_seconds: float = Field(default=5, gt=0, description="How often a worker says that it lives.")
    worker_dead_after_seconds: float = Field(
        default=30, gt=0, description="How long a worker may be silent before others take its runs over."
    )
    pause_grace_seconds: float = Field(
        default=5, ge=0, description="How long a pause waits for the agent's next safe point before it cuts it off."
    )
    shutdown_drain_seconds: float = Field(
        default=10, ge=0, description="How long a worker for all runs lets its runs go on when it stops."
    )
    worker_slots: int = Field(default=4, ge=1, description="How many runs one worker for all runs drives at once.")
    max_concurrent_runs: int = Field(
        default=8,
        ge=1,
        description="How many runs of hosted repositories are driven at once, by all workers together.",
    )
    max_concurrent_runs_per_repository: int = Field(
        default=2,
        ge=1,
        description="How many runs of one hosted repository are driven at once, by all workers together.",
    )
    retry_max_attempts: int = Field(default=5, ge=1, description="How often one model call is tried at most.")
    retry_initial_delay: float = Field(
        default=0.5, ge=0, description="Seconds before the first repetition of a model call; doubled each time."
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="OPENAI_API_KEY",
        description="Key for the model server; may be unset for a local one.",
    )
    openai_base_url: str | None = Field(
        default=None,
        validation_alias="OPENAI_BASE_URL",
        description="An OpenAI-compatible server, such as `http://127.0.0.1:8080/v1`; default: OpenAI's own.",
    )


def read_settings() -> Settings:
    """Return the engine's settings; raises `config_invalid` with the variable's name, never its value."""
    try:
        env = Environment()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors())
        raise DevflowError(
            "config_invalid", f"environment: {wrong}", recovery_hint="mend the environment variable"
        ) from None
    data_dir = env.data_dir or default_data_dir()
    return Settings(
        data_dir=data_dir.expanduser().absolute(),
        database_url=(env.database_url.get_secret_value() if env.database_url else None) or None,
        workspace_root=env.workspace_root,
        openai_api_key=env.openai_api_key.get_secret_value() if env.openai_api_key else None,
        openai_base_url=env.openai_base_url or None,
        model=env.model or None,
        budget_usd=env.budget_usd,
        price_file=env.price_file,
        sandbox=env.sandbox,
        toolchain_paths=tuple(Path(part).expanduser() for part in env.toolchain.split(":") if part),
        heartbeat_seconds=env.heartbeat_seconds,
        worker_dead_after_seconds=env.worker_dead_after_seconds,
        pause_grace_seconds=env.pause_grace_seconds,
        shutdown_drain_seconds=env.shutdown_drain_seconds,
        worker_slots=env.worker_slots,
        max_concurrent_runs=env.max_concurrent_runs,
        max_concurrent_runs_per_repository=env.max_concurrent_runs_per_repository,
        retry_max_attempts=env.retry_max_attempts,
        retry_initial_delay=env.retry_initial_delay,
    )
