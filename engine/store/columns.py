"""The columns that the engine's tables have in common, so that `tables` reads like the schema that it is."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Numeric,
    Uuid,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)


def one_of(column: str, values: type[StrEnum] | tuple[str, ...]) -> CheckConstraint:
    """Return the check that a column has one of the values."""
    listed = ", ".join(f"'{value}'" for value in values)
    info = {"column": column, "values": frozenset(str(value) for value in values)}
    return CheckConstraint(f"{column} IN ({listed})", name=column, info=info)


def repository_id() -> Column[int]:
    """Return the first key column of every table of a repository."""
    return Column("repository_id", BigInteger, nullable=False, autoincrement=False)


def run_id() -> Column[object]:
    """Return the column that names the run."""
    return Column("run_id", Uuid, nullable=False)


def of_run() -> ForeignKeyConstraint:
    """Return the foreign key to the run."""
    return ForeignKeyConstraint(["repository_id", "run_id"], ["runs.repository_id", "runs.run_id"], ondelete="CASCADE")


def time(name: str, *, now: bool = False, nullable: bool = True) -> Column[object]:
    """Return a column of a time in UTC; with `now`, the time of the insertion."""
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable and not now,
        server_default=func.clock_timestamp() if now else None,
    )


def usd(name: str, *, nullable: bool = True) -> Column[object]:
    """Return a column of US dollars."""
    return Column(name, Numeric(20, 10), nullable=nullable, server_default=None if nullable else text("0"))


def count(name: str, *, big: bool = False) -> Column[int]:
    """Return a column that counts from 0."""
    return Column(name, BigInteger if big else Integer, nullable=False, server_default=text("0"))
