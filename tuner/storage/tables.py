"""Our tables, and Optuna's beside them in the same database as far as they are read directly.

Optuna has one row a logical trial. What it has no words for is kept here: the study file,
the user's code, what people want of its drivers and which there are, who is trying which slot,
points that wait in line, every look at a test set, and study files that wait for their first
driver.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    column,
    table,
)

from tuner.errors import UsageError

STUDIES = table("studies", column("study_id"), column("study_name"))
TRIALS = table("trials", column("trial_id"), column("number"), column("study_id"), column("state"))
VALUES = table(
    "trial_values", column("trial_id"), column("objective"), column("value"), column("value_type")
)
REPORTS = table("trial_intermediate_values", column("trial_id"), column("step"))
USER_ATTRIBUTES = table(
    "trial_user_attributes", column("trial_id"), column("key"), column("value_json")
)
SLOT = "slot"
"""The user attribute that ties a row of Optuna's to its slot."""


metadata = MetaData()


class Damaged(str):
    """What stands in a JSON column and is no JSON: a disk has damaged it."""


class Json(TypeDecorator[Any]):
    """JSON that is read row by row: one that is damaged keeps nobody from reading the others."""

    impl = JSON
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """As JSON's, but for damage."""
        read = super().result_processor(dialect, coltype)

        def tolerant(value: Any) -> Any:
            try:
                return read(value) if read is not None else value
            except ValueError:
                return Damaged(value)

        return tolerant


def intact(value: Any, where: str) -> Any:
    """The value of a JSON column.

    Args:
        value: as it was read.
        where: what it is, for the message.

    Raises:
        UsageError: it is damaged.
    """
    if isinstance(value, Damaged):
        raise UsageError(
            f"{where} in the database is no JSON, so not what tuner wrote there; restore the "
            "database"
        )
    return value


studies = Table(
    "tuner_studies",
    metadata,
    Column("name", String(250), primary_key=True),
    Column("uid", String(32), nullable=False, unique=True),
    Column("spec", Text, nullable=False),  # JSON, of earlier versions YAML
    Column("source", Text, nullable=False),  # the study file's path
    Column("overrides", Json, nullable=False, server_default="[]"),  # of the file, as typed
    Column("code_path", Json, nullable=False),  # folders of the user's modules
    Column("dataset", Json, nullable=False),  # DatasetInfo
    Column("backend", String(20), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("wish", String(10), nullable=False, default="run", server_default="run"),
    Column("epoch_s", Json),  # seconds by precision, where it was chosen by measuring
)

code = Table(
    "tuner_code",
    metadata,
    Column("study", ForeignKey("tuner_studies.name", ondelete="CASCADE"), primary_key=True),
    Column("from_trial", Integer, primary_key=True),  # the first that it trained
    Column("digest", String(64), nullable=False),
    Column("files", Json, nullable=False),  # text by path
    Column("at_ms", BigInteger, nullable=False),
)

submissions = Table(
    "tuner_submissions",
    metadata,
    Column("name", String(250), primary_key=True),
    Column("spec", Text, nullable=False),  # JSON, of earlier versions YAML
    Column("source", Text, nullable=False),
    Column("overrides", Json, nullable=False, server_default="[]"),
    Column("code_path", Json, nullable=False),
    Column("submitted_ms", BigInteger, nullable=False),
    Column("refusal", Text, nullable=False),  # why the last worker could not begin it
)

drivers = Table(
    "tuner_drivers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),  # in the order of arrival
    Column("uid", String(32), nullable=False, unique=True),
    Column("study", ForeignKey("tuner_studies.name", ondelete="CASCADE"), nullable=False),
    Column("home", String(32), nullable=False),  # the id of its state folder
    Column("host", String(255), nullable=False),
    Column("place", String(80), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", BigInteger, nullable=False),
    Column("lease_s", Float, nullable=False),  # it beats at least so often
    Column("beats", BigInteger, nullable=False, default=0),
    Column("writes", BigInteger, nullable=False, default=0),  # transactions of Optuna's rows
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

looks = Table(
    "tuner_looks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study", String(250), nullable=False),
    Column("trial", Integer, nullable=False),
    Column("command", String(20), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("evidence", Json),  # null until the look has told something
    Column("dataset", String(64)),  # digest; this and the next are null in the oldest rows
    Column("model_sha256", String(64)),
    ForeignKeyConstraint(["study"], ["tuner_studies.name"], ondelete="CASCADE"),
)
