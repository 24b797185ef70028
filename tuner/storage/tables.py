"""The tables of tuner, and those of Optuna that tuner reads directly, in the same database.

Optuna keeps one row per trial. The tables of tuner keep the rest: the study file, the user's code,
the desired state of a study, its drivers, the attempts at each slot, queued configurations,
accesses to test sets, and submitted study files.
"""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    TypeDecorator,
    column,
    select,
    table,
)

from tuner.errors import UsageError

OPTUNA_STUDIES = table("studies", column("study_id"), column("study_name"))
OPTUNA_TRIALS = table(
    "trials", column("trial_id"), column("number"), column("study_id"), column("state")
)
OPTUNA_VALUES = table(
    "trial_values", column("trial_id"), column("objective"), column("value"), column("value_type")
)
OPTUNA_REPORTS = table("trial_intermediate_values", column("trial_id"), column("step"))
OPTUNA_TRIAL_ATTRIBUTES = table(
    "trial_user_attributes", column("trial_id"), column("key"), column("value_json")
)
SLOT = "slot"
"""The user attribute of an Optuna trial that holds its slot."""


def rows_of_slot(wanted: ColumnElement[Any], study: str, slot: int) -> Select[Any]:
    """Selects a column of the Optuna trials that have this slot in the study: one or none."""
    owner, trial, attribute = OPTUNA_STUDIES.c, OPTUNA_TRIALS.c, OPTUNA_TRIAL_ATTRIBUTES.c
    return (
        select(wanted)
        .select_from(OPTUNA_TRIALS)
        .join(OPTUNA_STUDIES, owner.study_id == trial.study_id)
        .join(OPTUNA_TRIAL_ATTRIBUTES, attribute.trial_id == trial.trial_id)
        .where(
            owner.study_name == study,
            attribute.key == SLOT,
            attribute.value_json == json.dumps(slot),
        )
    )


metadata = MetaData()


class Damaged(str):
    """The text of a JSON column that is not valid JSON, for example after a disk error."""


class Json(TypeDecorator[Any]):
    """A JSON column that reads damaged text as `Damaged`, so that other rows stay readable."""

    impl = JSON
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Reads JSON, or returns `Damaged`."""
        read = super().result_processor(dialect, coltype)

        def tolerant(value: Any) -> Any:
            try:
                return read(value) if read is not None else value
            except ValueError:
                return Damaged(value)

        return tolerant


def intact(value: Any, where: str) -> Any:
    """Returns the value of a JSON column if it is not damaged.

    Args:
        value: the value that was read.
        where: what the value is, for the message.

    Raises:
        UsageError: the value is damaged.
    """
    if isinstance(value, Damaged):
        raise UsageError(
            f"{where} in the database is no JSON, so tuner did not write it; restore the database"
        )
    return value


studies = Table(
    "tuner_studies",
    metadata,
    Column("name", String(250), primary_key=True),
    Column("uid", String(32), nullable=False, unique=True),
    Column("spec", Text, nullable=False),  # JSON; YAML in rows of earlier versions
    Column("source", Text, nullable=False),  # the study file's path
    Column("overrides", Json, nullable=False, server_default="[]"),  # --set, as typed
    Column("code_path", Json, nullable=False),  # folders of the user's modules
    Column("dataset", Json, nullable=False),  # DatasetInfo
    Column("backend", String(20), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    # The attribute `studies.c.desired_state` maps the column `wish`.
    Column(
        "wish", String(10), key="desired_state", nullable=False, default="run", server_default="run"
    ),
    Column("epoch_s", Json),  # seconds by precision, if the precision was chosen by measuring
)

code = Table(
    "tuner_code",
    metadata,
    Column("study", ForeignKey("tuner_studies.name", ondelete="CASCADE"), primary_key=True),
    Column("from_trial", Integer, primary_key=True),  # the first trial that it trained
    Column("digest", String(64), nullable=False),
    Column("files", Json, nullable=False),  # text by path
    Column("at_ms", BigInteger, nullable=False),
)

submissions = Table(
    "tuner_submissions",
    metadata,
    Column("name", String(250), primary_key=True),
    Column("spec", Text, nullable=False),  # JSON; YAML in rows of earlier versions
    Column("source", Text, nullable=False),
    Column("overrides", Json, nullable=False, server_default="[]"),
    Column("code_path", Json, nullable=False),
    Column("submitted_ms", BigInteger, nullable=False),
    Column("refusal", Text, nullable=False),  # why the last worker could not start it
)

drivers = Table(
    "tuner_drivers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),  # grows with each new driver
    Column("uid", String(32), nullable=False, unique=True),
    Column("study", ForeignKey("tuner_studies.name", ondelete="CASCADE"), nullable=False),
    Column("home", String(32), nullable=False),  # the id of its home folder
    Column("host", String(255), nullable=False),
    Column("place", String(80), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", BigInteger, nullable=False),
    Column("lease_s", Float, nullable=False),
    Column("last_heartbeat_ms", BigInteger, nullable=False),  # by the database's clock
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),  # null while it may write
)

attempts = Table(
    "tuner_attempts",
    metadata,
    Column("study", ForeignKey("tuner_studies.name", ondelete="CASCADE"), primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("uid", String(32), nullable=False, unique=True),
    Column("driver", ForeignKey("tuner_drivers.uid", ondelete="CASCADE"), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("outcome", String(20)),  # null while it runs
    Column("run_id", String(64)),
)

queued_points = Table(
    "tuner_queued_points",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study", ForeignKey("tuner_studies.name", ondelete="CASCADE"), nullable=False),
    Column("params", Json, nullable=False),
    Column("slot", Integer),  # null while it waits
)

test_set_accesses = Table(
    "tuner_looks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    # No foreign key: test rows that were seen stay seen when the study is deleted.
    Column("study", String(250), nullable=False),
    Column("study_uid", String(32), nullable=False),
    Column("trial", Integer, nullable=False),
    Column("command", String(20), nullable=False),
    Column("user_name", String(255)),  # null in rows of earlier versions, as the next column
    Column("host", String(255)),
    Column("at_ms", BigInteger, nullable=False),
    Column("evidence", Json),  # null until the scores are known
    Column("dataset", String(64)),  # digest; this and the next two may be null in the oldest rows
    Column("dataset_name", Text),
    Column("model_sha256", String(64)),
)
