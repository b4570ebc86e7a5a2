"""The address of a database, in the forms in which people write it and in those that the drivers want."""

from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.exc import ArgumentError

from engine.domain.errors import DevflowError

_SCHEMES = ("postgresql+asyncpg", "postgresql", "postgres")


def asyncpg_url(text: str) -> str:
    """Return SQLAlchemy's asyncpg URL for a Postgres URL as libpq has it; raises `config_invalid` without showing it.

    `sslmode` becomes `ssl`, the driver's word for it; `channel_binding`, which the driver does not have, is left out.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise _invalid("it is no URL") from error
    if url.drivername not in _SCHEMES:
        raise _invalid(f"it begins with {url.drivername}://, which is no Postgres")
    query = dict(url.query)
    query.pop("channel_binding", None)
    if "sslmode" in query:
        query.setdefault("ssl", query.pop("sslmode"))
    return url.set(drivername="postgresql+asyncpg", query=query).render_as_string(hide_password=False)


def connect_arguments(url: str) -> dict[str, Any]:
    """Return the arguments with which `asyncpg.connect` reaches the database of an asyncpg URL."""
    parsed: URL = make_url(url)
    arguments: dict[str, Any] = dialect().create_connect_args(parsed)[1]  # type: ignore[no-untyped-call]
    return arguments


def _invalid(reason: str) -> DevflowError:
    return DevflowError(
        "config_invalid",
        f"the database URL cannot be used: {reason}",
        recovery_hint="write DEVFLOW_DATABASE_URL as postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    )
