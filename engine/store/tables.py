"""The engine's tables, as SQLAlchemy sees them; `migrations/` holds the SQL that makes them.

Every table but `workers` has `repository_id` as its first key column. Money is US dollars, exact decimals. Times are
UTC. State columns are NOT NULL with a CHECK.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from engine.domain.states import Action, PhaseState, RequestState, RunState
from engine.store.columns import count, metadata, of_run, one_of, repository_id, run_id, time, usd

GENESIS_HASH = "0" * 64

RUNNABLE = (  # a run that needs a worker; `leases.needs_worker` says the same of a row in hand
    "state IN ('created', 'executing') OR requested_action IS NOT NULL"
    " OR (state IN ('completed', 'failed', 'aborted') AND final_report_path IS NULL)"
)


repositories = Table(
    "repositories",
    metadata,
    repository_id(),
    Column("location", Text, nullable=False),
    Column("next_run_number", Integer, nullable=False, server_default=text("1")),
    time("created_at", now=True),
    PrimaryKeyConstraint("repository_id"),
)

templates = Table(
    "templates",
    metadata,
    repository_id(),
    Column("hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    time("created_at", now=True),
    PrimaryKeyConstraint("repository_id", "hash"),
)

personas = Table(
    "personas",
    metadata,
    repository_id(),
    Column("hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    time("created_at", now=True),
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
    time("started_at", now=True),
    time("heartbeat_at", now=True),
    time("stopped_at"),
    PrimaryKeyConstraint("worker_id"),
)

runs = Table(
    "runs",
    metadata,
    repository_id(),
    run_id(),
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
    count("epoch", big=True),
    count("event_seq", big=True),
    Column("event_hash", Text, nullable=False, server_default=text(f"'{GENESIS_HASH}'")),
    Column("options", JSONB, nullable=False),
    Column("sandbox", Text),
    usd("budget_usd"),
    usd("reserved_usd", nullable=False),
    usd("spent_usd", nullable=False),
    count("unpriced_calls"),
    count("llm_call_count"),
    count("total_tokens", big=True),
    Column("last_ai_message", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("final_report_path", Text),
    Column("retry_of", Uuid),
    Column("trigger_key", Text),
    Column("discard_branch", Boolean, nullable=False, server_default=text("false")),
    time("created_at", now=True),
    time("started_at"),
    time("updated_at", now=True),
    time("ended_at"),
    PrimaryKeyConstraint("repository_id", "run_id"),
    UniqueConstraint("run_id"),
    UniqueConstraint("repository_id", "number"),
    ForeignKeyConstraint(["repository_id"], ["repositories.repository_id"]),
    ForeignKeyConstraint(["repository_id", "template_hash"], ["templates.repository_id", "templates.hash"]),
    one_of("state", RunState),
    CheckConstraint("(state = 'paused') = (paused_from_state IS NOT NULL)", name="paused_from_state"),
    one_of("requested_action", ("pause", "abort")),
    Index(
        "runs_one_live_run_an_issue",
        "repository_id",
        "issue_number",
        unique=True,
        postgresql_where=text("started_at IS NOT NULL AND state NOT IN ('completed', 'failed', 'aborted')"),
    ),
    Index(
        "runs_one_run_a_trigger",
        "repository_id",
        "trigger_key",
        unique=True,
        postgresql_where=text("trigger_key IS NOT NULL"),
    ),
    Index("runs_of_issue", "repository_id", "issue_number"),
    Index("runs_runnable", "run_id", postgresql_where=text(RUNNABLE)),
    Index("runs_leased", "repository_id", postgresql_where=text("lease_worker IS NOT NULL")),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    repository_id(),
    run_id(),
    Column("requirements_md", Text, nullable=False),
    Column("objective", Text, nullable=False),
    Column("extra", JSONB, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("model_override", Text),
    Column("input_hash", Text, nullable=False),
    PrimaryKeyConstraint("repository_id", "run_id"),
    of_run(),
)

bindings = Table(
    "bindings",
    metadata,
    repository_id(),
    run_id(),
    Column("role", Text, nullable=False),
    Column("persona_name", Text, nullable=False),
    Column("persona_version", Integer, nullable=False),
    Column("persona_hash", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("binding_hash", Text, nullable=False),
    PrimaryKeyConstraint("repository_id", "run_id", "role"),
    of_run(),
)

phases = Table(
    "phases",
    metadata,
    repository_id(),
    run_id(),
    Column("phase_key", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", Text, nullable=False),
    count("attempts"),
    Column("round", Integer, nullable=False, server_default=text("1")),
    count("revisions"),
    Column("feedback", Text),
    Column("fault", JSONB),
    Column("artifact_digest", Text),
    Column("commit_sha", Text),
    Column("tree_sha", Text),
    Column("error_code", Text),
    time("started_at"),
    time("ended_at"),
    PrimaryKeyConstraint("repository_id", "run_id", "phase_key"),
    UniqueConstraint("repository_id", "run_id", "position"),
    of_run(),
    one_of("state", PhaseState),
)

events = Table(
    "events",
    metadata,
    repository_id(),
    run_id(),
    Column("seq", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("type", Text, nullable=False),
    time("at", nullable=False),
    Column("phase_key", Text),
    Column("attempt", Integer),
    Column("payload", JSONB, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    PrimaryKeyConstraint("repository_id", "run_id", "seq"),
    UniqueConstraint("repository_id", "run_id", "key"),
    of_run(),
)

artifacts = Table(
    "artifacts",
    metadata,
    repository_id(),
    run_id(),
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
    time("created_at", now=True),
    PrimaryKeyConstraint("repository_id", "run_id", "phase_key", "round", "attempt"),
    of_run(),
)

checks = Table(
    "checks",
    metadata,
    repository_id(),
    run_id(),
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
    of_run(),
    one_of("expected", ("pass", "fail")),
)

approval_requests = Table(
    "approval_requests",
    metadata,
    repository_id(),
    Column("request_id", Uuid, nullable=False),
    run_id(),
    Column("key", Text, nullable=False),
    Column("phase_key", Text, nullable=False),
    Column("gate_key", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("required_approvals", Integer, nullable=False),
    Column("bound_digest", Text),
    Column("bound_tree", Text),
    Column("commit_sha", Text),
    time("created_at", now=True),
    time("resolved_at"),
    PrimaryKeyConstraint("repository_id", "request_id"),
    UniqueConstraint("repository_id", "key"),
    of_run(),
    one_of("state", RequestState),
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
    repository_id(),
    Column("decision_id", Uuid, nullable=False),
    Column("request_id", Uuid, nullable=False),
    Column("token", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("by_id", BigInteger),
    Column("note", Text),
    time("at", now=True),
    PrimaryKeyConstraint("repository_id", "decision_id"),
    UniqueConstraint("repository_id", "request_id", "token"),
    ForeignKeyConstraint(
        ["repository_id", "request_id"],
        ["approval_requests.repository_id", "approval_requests.request_id"],
        ondelete="CASCADE",
    ),
    one_of("action", Action),
)

consents = Table(
    "consents",
    metadata,
    repository_id(),
    Column("persona_hash", Text, nullable=False),
    Column("persona_name", Text, nullable=False),
    Column("by", Text, nullable=False),
    time("granted_at", now=True),
    time("revoked_at"),
    PrimaryKeyConstraint("repository_id", "persona_hash", "granted_at"),
)
