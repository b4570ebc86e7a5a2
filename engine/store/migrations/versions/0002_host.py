"""Runs that a host carries out in public: deliveries, surfaces, and what a run needs to know of its trigger."""

from pathlib import Path

from alembic import op

from engine.store.migrate import run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL beside this file."""
    run_script(op.get_bind(), Path(__file__).with_name("0002_host.sql"))
