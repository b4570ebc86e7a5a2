"""The tables of runs that a host carries out in public: its repositories, what it delivered, and what it shows.

The engine keeps them and knows nothing of what the host is. They belong to the same schema as `tables`, and the same
rules hold; `content_allowances` belongs to no repository, because the host counts by installation. A `claimed_by` is
the worker that has a row in hand, while that worker lives; a `not_before` that is NULL means at once.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from engine.store.columns import count, metadata, of_run, one_of, repository_id, run_id, time

DELIVERY_STATES = ("received", "handled", "ignored", "unreadable", "failed")

hosted_repositories = Table(
    "hosted_repositories",
    metadata,
    repository_id(),
    Column("installation_id", BigInteger, nullable=False),
    Column("full_name", Text, nullable=False),
    Column("default_branch", Text, nullable=False),
    time("updated_at", now=True),
    time("gone_at"),
    PrimaryKeyConstraint("repository_id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    repository_id(),
    Column("delivery_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'received'")),
    Column("outcome", Text),
    Column("responses", JSONB),
    count("attempts"),
    Column("claimed_by", Uuid),
    time("not_before"),
    time("received_at", now=True),
    time("handled_at"),
    PrimaryKeyConstraint("repository_id", "delivery_id"),
    UniqueConstraint("delivery_id"),
    one_of("state", DELIVERY_STATES),
    Index("deliveries_waiting", "received_at", postgresql_where=text("state = 'received'")),
)

commands = Table(
    "commands",
    metadata,
    repository_id(),
    Column("token", Text, nullable=False),
    run_id(),
    Column("command", Text, nullable=False),
    Column("by", Text, nullable=False),
    time("at", now=True),
    PrimaryKeyConstraint("repository_id", "run_id", "token"),
    of_run(),
)

projections = Table(
    "projections",
    metadata,
    repository_id(),
    run_id(),
    Column("dirty", Boolean, nullable=False, server_default=text("true")),
    Column("claimed_by", Uuid),
    count("attempts"),
    time("not_before"),
    time("again_at"),
    time("projected_at"),
    Column("error", Text),
    PrimaryKeyConstraint("repository_id", "run_id"),
    of_run(),
    Index(
        "projections_waiting",
        "run_id",
        postgresql_where=text("dirty OR claimed_by IS NOT NULL OR again_at IS NOT NULL"),
    ),
    Index("projections_of_run", "run_id"),
)

surfaces = Table(
    "surfaces",
    metadata,
    repository_id(),
    Column("surface_key", Text, nullable=False),
    Column("run_id", Uuid),
    Column("kind", Text, nullable=False),
    Column("target", JSONB, nullable=False),
    Column("external_id", Text),
    time("external_at"),
    Column("content_hash", Text),
    Column("facts", JSONB, nullable=False, server_default=text("'{}'")),
    time("attempted_at"),
    time("applied_at"),
    PrimaryKeyConstraint("repository_id", "surface_key"),
    ForeignKeyConstraint(["repository_id", "run_id"], ["runs.repository_id", "runs.run_id"], ondelete="CASCADE"),
    Index("surfaces_by_external_id", "repository_id", "kind", "external_id"),
    Index("surfaces_of_run", "run_id"),
)

content_allowances = Table(
    "content_allowances",
    metadata,
    Column("installation_id", BigInteger, nullable=False, autoincrement=False),
    time("spent_at", nullable=False),
    count("spends"),
    PrimaryKeyConstraint("installation_id", "spent_at"),
)
