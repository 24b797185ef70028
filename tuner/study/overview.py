"""The overview of many studies: state, counts and best point of each, in a few queries.

The result equals `Study.summary` and `Study.state`, without parameters and MLflow runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from tuner.home import Home
from tuner.search.outlines import Outline, outlines
from tuner.search.race_trials import claiming, outlined_values
from tuner.search.ranking import RankedPoint, best_point
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Attempt, attempts_by_study
from tuner.storage.database import Database
from tuner.storage.drivers import registered_by_study
from tuner.storage.studies import StudyRecord
from tuner.study.study import is_driven, state_of
from tuner.study.summary import Tally, state_name, tally


@dataclass(frozen=True)
class StudyOverview:
    """State, counts and best point of one study."""

    record: StudyRecord
    tally: Tally
    best: RankedPoint | None
    """The point that ranks first; None before a trial has completed."""
    state: str
    """See `Study.state`."""


def overview(home: Home, database: Database, records: Sequence[StudyRecord]) -> list[StudyOverview]:
    """Returns the overview of each study, in the same order.

    The number of queries does not depend on the number of studies.
    """
    names = [record.name for record in records]
    measured = claiming(each.spec for each in records)
    rows, tried, drivers = database.transact(
        lambda one: (
            outlines(one, names, measured),
            attempts_by_study(one, names),
            registered_by_study(one),
        )
    )

    def of(record: StudyRecord) -> StudyOverview:
        name, own = record.name, rows.get(record.name, [])
        counted = tally_of(record.spec, own, tried.get(name, []))
        driven = partial(is_driven, home, name, drivers.get(name, []))
        state = state_of(counted, record.desired_state, driven)
        return StudyOverview(record, counted, _best(record.spec, own), state)

    return [of(record) for record in records]


def tally_of(spec: StudySpec, rows: Iterable[Outline], tried: Iterable[Attempt]) -> Tally:
    """Counts a study's trials by state. Its attempts tell which open trials are running."""
    in_progress = {attempt.slot for attempt in tried if attempt.outcome is None}
    own = list(rows)
    states = [state_name(row.state, in_progress=row.slot in in_progress) for row in own]
    return tally(spec, states, lambda: outlined_values(spec, own))


def _best(spec: StudySpec, rows: Iterable[Outline]) -> RankedPoint | None:
    completed = (row.training for row in rows)
    return best_point(spec, filter(None, completed))
