"""Consent: some personas ask a person first (money, data leaving the house).

The answer is stored with the persona's hash.

A changed persona has another hash and has to ask again; a run that has started does not.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.errors import DevflowError
from engine.store.database import Database
from engine.store.tables import consents, repositories


@dataclass(frozen=True)
class Consents:
    """The consents of all repositories in one database."""

    database: Database

    async def granted(self, repository_id: int) -> set[str]:
        """Return the hashes of the personas that a repository's people have consented to."""
        async with self.database.read() as tx:
            rows = await tx.all(
                select(consents.c.persona_hash).where(
                    consents.c.repository_id == repository_id, consents.c.revoked_at.is_(None)
                )
            )
        return {row["persona_hash"] for row in rows}

    async def grant(self, repository_id: int, persona_hash: str, name: str, by: str) -> None:
        """Store a person's consent to one version of a persona."""
        async with self.database.transaction() as tx:
            await tx.execute(
                insert(consents).values(
                    repository_id=repository_id, persona_hash=persona_hash, persona_name=name, by=by
                )
            )

    async def revoke(self, repository_id: int, name: str) -> int:
        """Take back every consent to the persona `name`; raises `persona_not_found` where there is none."""
        async with self.database.transaction() as tx:
            revoked = await tx.all(
                update(consents)
                .where(
                    consents.c.repository_id == repository_id,
                    consents.c.persona_name == name,
                    consents.c.revoked_at.is_(None),
                )
                .values(revoked_at=func.clock_timestamp())
                .returning(consents.c.persona_hash)
            )
        if not revoked:
            raise DevflowError(
                "persona_not_found",
                f"nobody has consented to a persona {name}",
                recovery_hint="see `devflow consent list`",
            )
        return len(revoked)

    async def list(self) -> list[dict[str, Any]]:
        """Return all consents, newest first."""
        async with self.database.read() as tx:
            rows = await tx.all(
                select(consents, repositories.c.location)
                .outerjoin(repositories, repositories.c.repository_id == consents.c.repository_id)
                .order_by(consents.c.granted_at.desc())
            )
        return [
            {
                "persona": row["persona_name"],
                "persona_hash": row["persona_hash"],
                "repository_id": row["repository_id"],
                "repository": row["location"],
                "by": row["by"],
                "granted_at": row["granted_at"].isoformat(),
                "revoked_at": row["revoked_at"].isoformat() if row["revoked_at"] else None,
            }
            for row in rows
        ]
