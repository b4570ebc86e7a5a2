"""What is asked by a run alone is found by an index, however many other runs there are."""

from pathlib import Path

from alembic import op

from engine.store.migrate import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL beside this file."""
    run_script(op.get_bind(), Path(__file__).with_name("0003_of_a_run.sql"))
