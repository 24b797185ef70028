"""Where every study of a database stands, in as many queries for one study as for a thousand.

Says the same as `Study.summary` and `Study.state`, without parameters and runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuner.home import Home
from tuner.search.outlines import Outline, outlines
from tuner.search.ranking import RankedPoint, rank
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Attempt, attempts_by_study
from tuner.storage.database import Database
from tuner.storage.drivers import present_by_study
from tuner.storage.studies import StudyRecord
from tuner.study.study import is_driven, state_of
from tuner.study.summary import Tally, state_name, tally


@dataclass(frozen=True)
class StudyOverview:
    """Where one study stands."""

    record: StudyRecord
    tally: Tally
    best: RankedPoint | None
    """The point that ranks first, once a trial has completed."""
    state: str
    """As `Study.state` names it."""


def overview(home: Home, database: Database, records: Sequence[StudyRecord]) -> list[StudyOverview]:
    """Tells where each of the studies stands, in their order."""
    names = [record.name for record in records]
    rows, tried, present = database.transact(
        lambda one: (outlines(one, names), attempts_by_study(one, names), present_by_study(one))
    )

    def of(record: StudyRecord) -> StudyOverview:
        name, own = record.name, rows.get(record.name, [])
        counted = tally_of(record.spec, own, tried.get(name, []))
        state = state_of(counted, record.wish, lambda: is_driven(home, name, present.get(name, [])))
        return StudyOverview(record, counted, _best(record.spec, own), state)

    return [of(record) for record in records]


def tally_of(spec: StudySpec, rows: Iterable[Outline], tried: Iterable[Attempt]) -> Tally:
    """How many of a study's trials are in which state, which its attempts tell of open ones."""
    in_progress = {attempt.slot for attempt in tried if attempt.outcome is None}
    states = [state_name(row.state, in_progress=row.slot in in_progress) for row in rows]
    return tally(spec, states)


def _best(spec: StudySpec, rows: Iterable[Outline]) -> RankedPoint | None:
    completed = (row.training for row in rows)
    return next(iter(rank(spec, filter(None, completed))), None)
