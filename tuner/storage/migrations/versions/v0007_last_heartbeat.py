"""Stores the database's time of a driver's last heartbeat, in place of a count of heartbeats."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Keeps the counts. As times they are long past, so each lease has expired."""
    op.execute("ALTER TABLE tuner_drivers RENAME COLUMN beats TO last_heartbeat_ms")
