"""Adds submitted studies, and the desired state `pause`."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_studies = sa.table("tuner_studies", sa.column("wish"), sa.column("stop_requested", sa.Boolean))


def upgrade() -> None:
    """Uses plain ALTER TABLE: replacing the table would delete the rows that refer to it."""
    op.create_table(
        "tuner_submissions",
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("code_path", sa.JSON, nullable=False),
        sa.Column("submitted_ms", sa.BigInteger, nullable=False),
        sa.Column("refusal", sa.Text, nullable=False),
    )
    wish = sa.Column("wish", sa.String(10), nullable=False, server_default="run")
    op.add_column("tuner_studies", wish)
    op.execute(sa.update(_studies).where(_studies.c.stop_requested).values(wish="stop"))
    op.drop_column("tuner_studies", "stop_requested")
