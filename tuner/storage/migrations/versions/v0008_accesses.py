"""Lets accesses to test sets outlive their study, and adds who made them and to which data set."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_FOREIGN_KEY = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}
"""How PostgreSQL names a foreign key. SQLite keeps no name."""

_studies = sa.table("tuner_studies", *map(sa.column, ("name", "uid", "dataset")))
_looks = sa.table("tuner_looks", *map(sa.column, ("study", "study_uid", "dataset", "dataset_name")))


def upgrade() -> None:
    """Fills the columns in from the studies. No row refers to the table, so it may be replaced."""
    op.add_column("tuner_looks", sa.Column("study_uid", sa.String(32)))
    op.add_column("tuner_looks", sa.Column("user_name", sa.String(255)))
    op.add_column("tuner_looks", sa.Column("host", sa.String(255)))
    op.add_column("tuner_looks", sa.Column("dataset_name", sa.Text))
    columns = _studies.c.name, _studies.c.uid, sa.cast(_studies.c.dataset, sa.Text)
    for name, uid, text in op.get_bind().execute(sa.select(*columns)).all():
        dataset = _dataset(text)
        values = {
            "study_uid": uid,
            "dataset": sa.func.coalesce(_looks.c.dataset, dataset.get("digest")),
            "dataset_name": dataset.get("name"),
        }
        op.execute(sa.update(_looks).where(_looks.c.study == name).values(values))
    # Of a study whose row was removed by hand, which SQLite's shell allows.
    op.execute(sa.update(_looks).where(_looks.c.study_uid.is_(None)).values(study_uid=""))
    with op.batch_alter_table("tuner_looks", naming_convention=_FOREIGN_KEY) as looks:
        looks.drop_constraint("tuner_looks_study_fkey", type_="foreignkey")
        looks.alter_column("study_uid", existing_type=sa.String(32), nullable=False)


def _dataset(text: str) -> dict[str, Any]:
    """The stored data set; empty if the row is damaged."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}
