"""Adds overrides of a study file, and the data set and model of an access to a test set."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Uses plain ALTER TABLE; the new columns are empty in existing rows."""
    for table in ("tuner_studies", "tuner_submissions"):
        op.add_column(table, sa.Column("overrides", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("tuner_looks", sa.Column("dataset", sa.String(64)))
    op.add_column("tuner_looks", sa.Column("model_sha256", sa.String(64)))
