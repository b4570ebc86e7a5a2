"""The first schema: the engine's tables and the queue's."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL beside this file."""
    for name in ("0001_engine.sql", "0001_pgqueuer.sql"):
        sql = Path(__file__).with_name(name).read_text(encoding="utf-8")
        # The driver's own call, because SQLAlchemy prepares statements, and only one can be prepared at a time.
        op.get_bind().connection.dbapi_connection.run_async(lambda connection, sql=sql: connection.execute(sql))
