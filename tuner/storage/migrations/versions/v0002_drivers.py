"""Gives drivers rows of their own; attempts name their driver instead of its process."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_PROCESS = ("host", "boot", "pid", "pid_started")
_attempts = sa.table("tuner_attempts", *map(sa.column, ("study", "outcome", "driver", *_PROCESS)))


def upgrade() -> None:
    """Makes a driver of each owner of attempts. One with open attempts can be taken over."""
    drivers = op.create_table(
        "tuner_drivers",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uid", sa.String(32), nullable=False, unique=True),
        sa.Column(
            "study",
            sa.String(250),
            sa.ForeignKey("tuner_studies.name", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("home", sa.String(32), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("place", sa.String(80), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("pid_started", sa.BigInteger, nullable=False),
        sa.Column("lease_s", sa.Float, nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
        sa.Column("writes", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
    )
    op.add_column("tuner_attempts", sa.Column("driver", sa.String(32)))
    owner = [_attempts.c.study, *(_attempts.c[name] for name in _PROCESS)]
    is_open = sa.func.max(sa.case((_attempts.c.outcome.is_(None), 1), else_=0))
    connection = op.get_bind()
    for row in connection.execute(sa.select(*owner, is_open).group_by(*owner)).all():
        study, host, boot, pid, pid_started, has_open = tuple(row)
        uid = uuid.uuid4().hex
        values = {"uid": uid, "study": study, "home": "", "host": host, "place": boot, "pid": pid}
        values |= {"pid_started": pid_started, "lease_s": 60.0, "beats": 0, "writes": 0}
        values |= {"started_ms": 0, "ended_ms": None if has_open else 0}
        connection.execute(sa.insert(drivers).values(values))
        mine = sa.and_(
            *(
                column == value
                for column, value in zip(owner, (study, host, boot, pid, pid_started), strict=True)
            )
        )
        connection.execute(sa.update(_attempts).where(mine).values(driver=uid))
    with op.batch_alter_table("tuner_attempts") as attempts:
        for name in _PROCESS:
            attempts.drop_column(name)
        attempts.alter_column("driver", existing_type=sa.String(32), nullable=False)
        attempts.create_foreign_key(
            "tuner_attempts_driver_fkey", "tuner_drivers", ["driver"], ["uid"], ondelete="CASCADE"
        )
