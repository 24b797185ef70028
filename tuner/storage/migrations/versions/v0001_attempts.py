"""Creates studies, attempts that name their process, queued points, accesses to test sets."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the first tables."""
    op.create_table(
        "tuner_studies",
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("uid", sa.String(32), nullable=False, unique=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("code_path", sa.JSON, nullable=False),
        sa.Column("dataset", sa.JSON, nullable=False),
        sa.Column("backend", sa.String(20), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("stop_requested", sa.Boolean, nullable=False),
    )
    op.create_table(
        "tuner_attempts",
        sa.Column("study", sa.String(250), _study(), primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("uid", sa.String(32), nullable=False, unique=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("boot", sa.String(64), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("pid_started", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("outcome", sa.String(20)),
        sa.Column("run_id", sa.String(64)),
    )
    op.create_table(
        "tuner_queued_points",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study", sa.String(250), _study(), nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("slot", sa.Integer),
    )
    op.create_table(
        "tuner_looks",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study", sa.String(250), _study(), nullable=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("command", sa.String(20), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("evidence", sa.JSON),
    )


def _study() -> sa.ForeignKey:
    return sa.ForeignKey("tuner_studies.name", ondelete="CASCADE")
