"""Removes a driver's count of transactions: writes to trials can be repeated without it."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Uses plain ALTER TABLE, which SQLite has since 3.35."""
    op.drop_column("tuner_drivers", "writes")
