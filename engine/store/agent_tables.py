"""The tables of agents at work: sessions and their messages, prompts, tool calls, and the ledger of model calls.

They belong to the same schema as `tables`, and the same rules hold.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from engine.domain.states import SessionState
from engine.store.columns import count, metadata, of_run, one_of, repository_id, run_id, time, usd

agent_sessions = Table(
    "agent_sessions",
    metadata,
    repository_id(),
    Column("session_id", Uuid, nullable=False),
    run_id(),
    Column("phase_key", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("persona_hash", Text, nullable=False),
    Column("worktree_token", Text, nullable=False),
    Column("state", Text, nullable=False),
    count("message_count"),
    count("turn_count"),
    time("created_at", now=True),
    time("updated_at", now=True),
    PrimaryKeyConstraint("repository_id", "session_id"),
    of_run(),
    one_of("state", SessionState),
    Index("agent_sessions_of_a_phase", "repository_id", "run_id", "phase_key"),
    Index("agent_sessions_of_run", "run_id"),
)

session_messages = Table(
    "session_messages",
    metadata,
    repository_id(),
    Column("session_id", Uuid, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("message", JSONB, nullable=False),
    time("created_at", now=True),
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
    repository_id(),
    Column("prompt_id", Uuid, nullable=False),
    run_id(),
    Column("session_id", Uuid, nullable=False),
    Column("dedup_key", Text, nullable=False),
    time("created_at", now=True),
    PrimaryKeyConstraint("repository_id", "prompt_id"),
    UniqueConstraint("repository_id", "run_id", "dedup_key"),
    of_run(),
)

ledger = Table(
    "ledger",
    metadata,
    repository_id(),
    Column("call_id", Uuid, nullable=False),
    run_id(),
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
    usd("reserved_usd"),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    usd("input_usd"),
    usd("output_usd"),
    usd("cost_usd"),
    Column("cost_source", Text),
    Column("latency_ms", Integer),
    Column("error_code", Text),
    Column("provider_request_id", Text),
    time("started_at", now=True),
    time("ended_at"),
    PrimaryKeyConstraint("repository_id", "call_id"),
    of_run(),
    one_of("status", ("reserved", "settled", "failed", "unknown")),
    one_of("cost_source", ("server", "table", "recorded", "reservation")),
    Index("ledger_of_a_run", "repository_id", "run_id", "started_at"),
)

tool_calls = Table(
    "tool_calls",
    metadata,
    repository_id(),
    Column("tool_call_id", Uuid, nullable=False),
    run_id(),
    Column("session_id", Uuid, nullable=False),
    Column("turn_index", Integer, nullable=False),
    Column("call_key", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("result_excerpt", Text),
    time("started_at", now=True),
    time("ended_at"),
    PrimaryKeyConstraint("repository_id", "tool_call_id"),
    UniqueConstraint("repository_id", "session_id", "turn_index", "call_key"),
    of_run(),
    one_of("status", ("started", "ok", "error", "interrupted")),
)
