"""Overrides of a study file; what a look at a test set was taken at, and with which model."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Plain ALTER TABLE; of what was there nothing of all this is known."""
    for table in ("tuner_studies", "tuner_submissions"):
        op.add_column(table, sa.Column("overrides", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("tuner_looks", sa.Column("dataset", sa.String(64)))
    op.add_column("tuner_looks", sa.Column("model_sha256", sa.String(64)))
