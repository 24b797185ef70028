"""Adds the user's code that trained a study's trials, and the measured epoch times."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the table empty: an existing study stores its code at its next run."""
    op.create_table(
        "tuner_code",
        sa.Column(
            "study",
            sa.String(250),
            sa.ForeignKey("tuner_studies.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("from_trial", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.add_column("tuner_studies", sa.Column("epoch_s", sa.JSON))
