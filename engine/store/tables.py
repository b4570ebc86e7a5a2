"""The engine's tables, as SQLAlchemy sees them; `migrations/` holds the SQL that makes them.

Every table but `workers` has `repository_id` as its first key column. Money is US dollars, exact decimals. Times are
UTC. State columns are NOT NULL with a CHECK.
"""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from engine.domain.states import Action, PhaseState, RequestState, RunState, SessionState

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

GENESIS_HASH = "0" * 64

RUNNABLE = (  # a run that needs a worker; `leases.needs_worker` says the same of a row in hand
    "state IN ('created', 'executing') OR requested_action IS NOT NULL"
    " OR (state IN ('completed', 'failed', 'aborted') AND final_report_path IS NULL)"
)


def _one_of(column: str, values: type[StrEnum] | tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _repository() -> Column[int]:
    return Column("repository_id", BigInteger, nullable=False, autoincrement=False)


def _run() -> Column[object]:
    return Column("run_id", Uuid, nullable=False)


def _of_run() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["repository_id", "run_id"], ["runs.repository_id", "runs.run_id"], ondelete="CASCADE")


def _time(name: str, *, now: bool = False, nullable: bool = True) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable and not now,
        server_default=func.clock_timestamp() if now else None,
    )


def _usd(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, Numeric(20, 10), nullable=nullable, server_default=None if nullable else text("0"))


def _count(name: str, *, big: bool = False) -> Column[int]:
    return Column(name, BigInteger if big else Integer, nullable=False, server_default=text("0"))


repositories = Table(
    "repositories",
    metadata,
    _repository(),
    Column("location", Text, nullable=False),
    Column("next_run_number", Integer, nullable=False, server_default=text("1")),
    _time("created_at", now=True),
    PrimaryKeyConstraint("repository_id"),
)

templates = Table(
    "templates",
    metadata,
    _repository(),
    Column("hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    _time("created_at", now=True),
    PrimaryKeyConstraint("repository_id", "hash"),
)

personas = Table(
    "personas",
    metadata,
    _repository(),
    Column("hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    _time("created_at", now=True),
    PrimaryKeyConstraint("repository_id", "hash"),
)

workers = Table(
    "workers",
    metadata,
    Column("worker_id", Uuid, nullable=False),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", Text, nullable=False),
    _time("started_at", now=True),
    _time("heartbeat_at", now=True),
    _time("stopped_at"),
    PrimaryKeyConstraint("worker_id"),
)

runs = Table(
    "runs",
    metadata,
    _repository(),
    _run(),
    Column("number", Integer, nullable=False),
    Column("issue_number", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("template_hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("paused_from_state", Text),
    Column("requested_action", Text),
    Column("requested_by", Text),
    Column("requested_note", Text),
    Column("queue", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("base_branch", Text, nullable=False),
    Column("base_sha", Text, nullable=False),
    Column("head_sha", Text, nullable=False),
    Column("pushed_sha", Text),
    Column("lease_worker", Uuid),
    _count("epoch", big=True),
    _count("event_seq", big=True),
    Column("event_hash", Text, nullable=False, server_default=text(f"'{GENESIS_HASH}'")),
    Column("options", JSONB, nullable=False),
    Column("sandbox", Text),
    _usd("budget_usd"),
    _usd("reserved_usd", nullable=False),
    _usd("spent_usd", nullable=False),
    _count("unpriced_calls"),
    _count("llm_call_count"),
    _count("total_tokens", big=True),
    Column("last_ai_message", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("final_report_path", Text),
    Column("retry_of", Uuid),
    _time("created_at", now=True),
    _time("started_at"),
    _time("updated_at", now=True),
    _time("ended_at"),
    PrimaryKeyConstraint("repository_id", "run_id"),
    UniqueConstraint("run_id"),
    UniqueConstraint("repository_id", "number"),
    ForeignKeyConstraint(["repository_id"], ["repositories.repository_id"]),
    ForeignKeyConstraint(["repository_id", "template_hash"], ["templates.repository_id", "templates.hash"]),
    _one_of("state", RunState),
    CheckConstraint("(state = 'paused') = (paused_from_state IS NOT NULL)", name="paused_from_state"),
    _one_of("requested_action", ("pause", "abort")),
    Index(
        "runs_one_live_run_an_issue",
        "repository_id",
        "issue_number",
        unique=True,
        postgresql_where=text("started_at IS NOT NULL AND state NOT IN ('completed', 'failed', 'aborted')"),
    ),
    Index("runs_runnable", "run_id", postgresql_where=text(RUNNABLE)),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    _repository(),
    _run(),
    Column("requirements_md", Text, nullable=False),
    Column("objective", Text, nullable=False),
    Column("extra", JSONB, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("model_override", Text),
    Column("input_hash", Text, nullable=False),
    PrimaryKeyConstraint("repository_id", "run_id"),
    _of_run(),
)

bindings = Table(
    "bindings",
    metadata,
    _repository(),
    _run(),
    Column("role", Text, nullable=False),
    Column("persona_name", Text, nullable=False),
    Column("persona_version", Integer, nullable=False),
    Column("persona_hash", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("binding_hash", Text, nullable=False),
    PrimaryKeyConstraint("repository_id", "run_id", "role"),
    _of_run(),
)

phases = Table(
    "phases",
    metadata,
    _repository(),
    _run(),
    Column("phase_key", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", Text, nullable=False),
    _count("attempts"),
    Column("round", Integer, nullable=False, server_default=text("1")),
    _count("revisions"),
    Column("feedback", Text),
    Column("fault", JSONB),
    Column("artifact_digest", Text),
    Column("commit_sha", Text),
    Column("tree_sha", Text),
    Column("error_code", Text),
    _time("started_at"),
    _time("ended_at"),
    PrimaryKeyConstraint("repository_id", "run_id", "phase_key"),
    UniqueConstraint("repository_id", "run_id", "position"),
    _of_run(),
    _one_of("state", PhaseState),
)

events = Table(
    "events",
    metadata,
    _repository(),
    _run(),
    Column("seq", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("type", Text, nullable=False),
    _time("at", nullable=False),
    Column("phase_key", Text),
    Column("attempt", Integer),
    Column("payload", JSONB, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    PrimaryKeyConstraint("repository_id", "run_id", "seq"),
    UniqueConstraint("repository_id", "run_id", "key"),
    _of_run(),
)

artifacts = Table(
    "artifacts",
    metadata,
    _repository(),
    _run(),
    Column("phase_key", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("digest", Text, nullable=False),
    Column("valid", Boolean, nullable=False),
    Column("errors", JSONB, nullable=False),
    Column("commit_sha", Text),
    _time("created_at", now=True),
    PrimaryKeyConstraint("repository_id", "run_id", "phase_key", "round", "attempt"),
    _of_run(),
)

checks = Table(
    "checks",
    metadata,
    _repository(),
    _run(),
    Column("phase_key", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("exit_code", Integer),
    Column("expected", Text, nullable=False),
    Column("met", Boolean, nullable=False),
    Column("seconds", Numeric(12, 3), nullable=False),
    Column("output_tail", Text, nullable=False),
    PrimaryKeyConstraint("repository_id", "run_id", "phase_key", "round", "attempt", "name"),
    _of_run(),
    _one_of("expected", ("pass", "fail")),
)

approval_requests = Table(
    "approval_requests",
    metadata,
    _repository(),
    Column("request_id", Uuid, nullable=False),
    _run(),
    Column("key", Text, nullable=False),
    Column("phase_key", Text, nullable=False),
    Column("gate_key", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("required_approvals", Integer, nullable=False),
    Column("bound_digest", Text),
    Column("bound_tree", Text),
    Column("commit_sha", Text),
    _time("created_at", now=True),
    _time("resolved_at"),
    PrimaryKeyConstraint("repository_id", "request_id"),
    UniqueConstraint("repository_id", "key"),
    _of_run(),
    _one_of("state", RequestState),
    Index(
        "approval_requests_one_pending_a_run",
        "repository_id",
        "run_id",
        unique=True,
        postgresql_where=text("state = 'pending'"),
    ),
)

decisions = Table(
    "decisions",
    metadata,
    _repository(),
    Column("decision_id", Uuid, nullable=False),
    Column("request_id", Uuid, nullable=False),
    Column("token", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("note", Text),
    _time("at", now=True),
    PrimaryKeyConstraint("repository_id", "decision_id"),
    UniqueConstraint("repository_id", "request_id", "token"),
    ForeignKeyConstraint(
        ["repository_id", "request_id"],
        ["approval_requests.repository_id", "approval_requests.request_id"],
        ondelete="CASCADE",
    ),
    _one_of("action", Action),
)

agent_sessions = Table(
    "agent_sessions",
    metadata,
    _repository(),
    Column("session_id", Uuid, nullable=False),
    _run(),
    Column("phase_key", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("persona_hash", Text, nullable=False),
    Column("worktree_token", Text, nullable=False),
    Column("state", Text, nullable=False),
    _count("message_count"),
    _count("turn_count"),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    PrimaryKeyConstraint("repository_id", "session_id"),
    _of_run(),
    _one_of("state", SessionState),
    Index("agent_sessions_of_a_phase", "repository_id", "run_id", "phase_key"),
)

session_messages = Table(
    "session_messages",
    metadata,
    _repository(),
    Column("session_id", Uuid, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("message", JSONB, nullable=False),
    _time("created_at", now=True),
    PrimaryKeyConstraint("repository_id", "session_id", "seq"),
    ForeignKeyConstraint(
        ["repository_id", "session_id"],
        ["agent_sessions.repository_id", "agent_sessions.session_id"],
        ondelete="CASCADE",
    ),
)

prompts = Table(
    "prompts",
    metadata,
    _repository(),
    Column("prompt_id", Uuid, nullable=False),
    _run(),
    Column("session_id", Uuid, nullable=False),
    Column("dedup_key", Text, nullable=False),
    _time("created_at", now=True),
    PrimaryKeyConstraint("repository_id", "prompt_id"),
    UniqueConstraint("repository_id", "run_id", "dedup_key"),
    _of_run(),
)

ledger = Table(
    "ledger",
    metadata,
    _repository(),
    Column("call_id", Uuid, nullable=False),
    _run(),
    Column("phase_key", Text, nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("persona_name", Text, nullable=False),
    Column("persona_version", Integer, nullable=False),
    Column("backend", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("turn_index", Integer, nullable=False),
    Column("status", Text, nullable=False),
    _usd("reserved_usd"),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    _usd("input_usd"),
    _usd("output_usd"),
    _usd("cost_usd"),
    Column("cost_source", Text),
    Column("latency_ms", Integer),
    Column("error_code", Text),
    Column("provider_request_id", Text),
    _time("started_at", now=True),
    _time("ended_at"),
    PrimaryKeyConstraint("repository_id", "call_id"),
    _of_run(),
    _one_of("status", ("reserved", "settled", "failed", "unknown")),
    _one_of("cost_source", ("server", "table", "recorded", "reservation")),
    Index("ledger_of_a_run", "repository_id", "run_id", "started_at"),
)

tool_calls = Table(
    "tool_calls",
    metadata,
    _repository(),
    Column("tool_call_id", Uuid, nullable=False),
    _run(),
    Column("session_id", Uuid, nullable=False),
    Column("turn_index", Integer, nullable=False),
    Column("call_key", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("result_excerpt", Text),
    _time("started_at", now=True),
    _time("ended_at"),
    PrimaryKeyConstraint("repository_id", "tool_call_id"),
    UniqueConstraint("repository_id", "session_id", "turn_index", "call_key"),
    _of_run(),
    _one_of("status", ("started", "ok", "error", "interrupted")),
)

consents = Table(
    "consents",
    metadata,
    _repository(),
    Column("persona_hash", Text, nullable=False),
    Column("persona_name", Text, nullable=False),
    Column("by", Text, nullable=False),
    _time("granted_at", now=True),
    _time("revoked_at"),
    PrimaryKeyConstraint("repository_id", "persona_hash", "granted_at"),
)
