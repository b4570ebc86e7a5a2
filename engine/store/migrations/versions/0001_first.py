"""The first schema: the engine's tables and the queue's."""

from pathlib import Path

from alembic import op

from engine.store.migrate import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL beside this file."""
    folder = Path(__file__).parent
    run_script(op.get_bind(), folder / "0001_engine.sql")
    run_script(op.get_bind(), folder / "0001_pgqueuer.sql")
