"""Settings as an operator gives them: environment variables, read once and handed on as values.

`read_settings` makes the engine's, `read_app_settings` what a GitHub App needs besides.
"""

import re
from dataclasses import dataclass, field
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
    github_app_id: int | None = Field(
        default=None,
        gt=0,
        validation_alias="GITHUB_APP_ID",
        description="GitHub App: its number, from its settings page.",
    )
    github_private_key: SecretStr | None = Field(
        default=None,
        validation_alias="GITHUB_PRIVATE_KEY",
        description="GitHub App: its private key in PEM form; line ends may be written as `\\n`.",
    )
    github_private_key_path: Path | None = Field(
        default=None,
        validation_alias="GITHUB_PRIVATE_KEY_PATH",
        description="GitHub App: the file with that key, instead.",
    )
    github_webhook_secret: SecretStr | None = Field(
        default=None, validation_alias="GITHUB_WEBHOOK_SECRET", description="GitHub App: the secret of its webhook."
    )
    github_webhook_secrets: SecretStr | None = Field(
        default=None,
        validation_alias="GITHUB_WEBHOOK_SECRETS",
        description="GitHub App: several such secrets, split by commas or lines, all valid while one replaces another.",
    )
    github_api_url: str = Field(
        default="https://api.github.com",
        validation_alias="GITHUB_API_URL",
        description="Address of GitHub's API; `https://HOST/api/v3` for a GitHub Enterprise Server.",
    )
    github_server_url: str = Field(
        default="https://github.com",
        validation_alias="GITHUB_SERVER_URL",
        description="Address of GitHub itself, for git and for links.",
    )
    github_seconds_between_writes: float = Field(
        default=0.4,
        ge=0,
        description="Pause between two changes at GitHub in the long run; up to 30 may come at once.",
    )
    cassette: Path | None = Field(
        default=None,
        description="For trying out: a recorded agent for every run that `devflow serve` or `worker` starts.",
    )


@dataclass(frozen=True)
class AppSettings:
    """What a GitHub App's server or worker needs; a worker takes no webhooks and needs no secret."""

    app_id: int
    private_key: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    api_url: str = "https://api.github.com"
    server_url: str = "https://github.com"
    seconds_between_writes: float = 0.4
    cassette: tuple[str, bytes] | None = field(default=None, repr=False)


def read_app_settings(*, takes_webhooks: bool) -> AppSettings:
    """Return the GitHub App's settings; raises `config_invalid` with the names of what is missing or wrong."""
    env = _environment()
    secrets = _secrets(env)
    missing = [] if env.github_app_id else ["GITHUB_APP_ID"]
    if not (env.github_private_key or env.github_private_key_path):
        missing.append("GITHUB_PRIVATE_KEY or GITHUB_PRIVATE_KEY_PATH")
    if takes_webhooks and not secrets:
        missing.append("GITHUB_WEBHOOK_SECRET")
    if missing or env.github_app_id is None:
        hint = "set what is missing; docs/github-app.md says where each comes from"
        raise DevflowError("config_invalid", f"not set: {', '.join(missing)}", recovery_hint=hint)
    for name, url in (("GITHUB_API_URL", env.github_api_url), ("GITHUB_SERVER_URL", env.github_server_url)):
        if not re.fullmatch(r"https?://[^\s@/]+(/[^\s@]*)?", url):
            raise DevflowError("config_invalid", f"{name} is no http or https address without a user name")
    return AppSettings(
        app_id=env.github_app_id,
        private_key=_private_key(env),
        webhook_secrets=secrets,
        api_url=env.github_api_url.rstrip("/"),
        server_url=env.github_server_url.rstrip("/"),
        seconds_between_writes=env.github_seconds_between_writes,
        cassette=_cassette(env.cassette),
    )


def read_cassette(path: Path | None = None) -> tuple[str, bytes] | None:
    """Return the recorded agent that is to be used: the file's, else DEVFLOW_CASSETTE's; raises `config_invalid`."""
    if path is not None:
        return _cassette(path, "the input cassette")
    return _cassette(_environment().cassette)


def read_seconds_between_writes() -> float:
    """Return the pause between two changes at GitHub."""
    return _environment().github_seconds_between_writes


def _secrets(env: Environment) -> tuple[str, ...]:
    single = [env.github_webhook_secret.get_secret_value()] if env.github_webhook_secret else []
    several = env.github_webhook_secrets.get_secret_value() if env.github_webhook_secrets else ""
    every = [secret.strip() for secret in (*single, *re.split(r"[,\n]", several))]
    return tuple(dict.fromkeys(filter(None, every)))


def _private_key(env: Environment) -> str:
    if env.github_private_key is not None:
        return env.github_private_key.get_secret_value()
    path = env.github_private_key_path or Path()
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        raise DevflowError("config_invalid", "GITHUB_PRIVATE_KEY_PATH names no file that can be read as text") from None


def _cassette(path: Path | None, what: str = "DEVFLOW_CASSETTE") -> tuple[str, bytes] | None:
    if path is None:
        return None
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise DevflowError("config_invalid", f"{what} cannot be read: {error.strerror}") from None


def _environment() -> Environment:
    try:
        return Environment()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors())
        raise DevflowError(
            "config_invalid", f"environment: {wrong}", recovery_hint="mend the environment variable"
        ) from None


def read_settings() -> Settings:
    """Return the engine's settings; raises `config_invalid` with the variable's name, never its value."""
    env = _environment()
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
