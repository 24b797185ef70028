"""The race that a study's trials run: what they reached, how the race stands, what comes next.

All of it follows from the ended trials, so every process that has read the same ones agrees.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from tuner.search.outlines import Outline, outlines
from tuner.search.points import claimed_points, point_of, replicate_of, searched
from tuner.search.race import FIRST_BLOCKS, Block, Contest, RaceState, judge
from tuner.search.trials import stored_measures, stored_result
from tuner.spec.objective import direction_of
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.database import Database
from tuner.storage.tables import SLOT

Values = Mapping[int, Mapping[str, float]]
"""What each ended trial reached, by slot and metric; the larger, the better. Empty for nothing."""


class RaceValues:
    """What the ended trials of one race reached. Each is read once, since it never changes."""

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._known: dict[int, Mapping[str, float]] = {}

    def of(self, rows: Iterable[FrozenTrial]) -> Values:
        """Returns the values of these trials, among which are all that were read before."""
        for row in rows:
            slot = row.user_attrs[SLOT]
            if slot not in self._known and row.state.is_finished():
                measured = stored_measures(row).by_metric if self._spec.claims else {}
                self._known[slot] = _reached(self._spec, row.state, row.value, measured)
        return self._known


def values_of(spec: StudySpec, rows: Iterable[FrozenTrial]) -> Values:
    """Returns what the ended trials of a race reached."""
    return RaceValues(spec).of(rows)


def outlined_values(spec: StudySpec, rows: Iterable[Outline]) -> Values:
    """Returns `values_of` from the outlines of the trials, which have what claims need."""
    ended = (row for row in rows if row.state.is_finished())
    return {row.slot: _reached(spec, row.state, row.value, row.measured) for row in ended}


def claiming(specs: Iterable[StudySpec]) -> list[str]:
    """Returns the names of the races with claims, which need `Outline.measured`."""
    return [spec.name for spec in specs if spec.race is not None and spec.claims]


def race_state(spec: StudySpec, values: Values) -> RaceState:
    """Decides the race that a study is.

    Args:
        spec: the study.
        values: what its ended trials reached, by slot, as `values_of` returns it.
    """
    assert spec.race is not None, f"{spec.name} is no race"
    known = 1 + max((replicate_of(spec, slot) for slot in values), default=-1)
    blocks: list[dict[int, Mapping[str, float]]] = [{} for _ in range(known)]
    for slot, reached in values.items():
        blocks[replicate_of(spec, slot)][point_of(spec, slot)] = reached

    def series(metric: str) -> list[Block]:
        return [{at: one.get(metric, math.nan) for at, one in block.items()} for block in blocks]

    return judge(
        range(spec.trials - spec.race.claimed),
        spec.race.against,
        series(spec.objective.metric),
        spec.race.rules,
        _resolution(spec, spec.objective.metric),
        list(_contests(spec, spec.race.rules.margin, series)),
    )


def _contests(
    spec: StudySpec, margin: float, series: Callable[[str], list[Block]]
) -> Iterator[Contest]:
    """Yields the claims of a race."""
    points = [searched(spec, dict(point)) for point in spec.baseline[: spec.trials]]
    for claim, (better, than) in zip(spec.claims, claimed_points(spec), strict=True):
        metric = claim.metric or spec.objective.metric
        yield Contest(
            name=claim.name,
            better=points.index(better),
            than=points.index(than),
            margin=claim.margin or margin,
            resolution=_resolution(spec, metric),
            blocks=series(metric),
        )


def _resolution(spec: StudySpec, metric: str) -> float:
    """The step of a share of the validation images; F1 moves with accuracy. 0 for any other."""
    in_images = metric.endswith(("accuracy", "f1")) and spec.validation
    return 1 / spec.validation if in_images else 0.0


def planned(spec: StudySpec, values: Callable[[], Values]) -> Collection[int]:
    """Returns the slots that are to be trained, as far as it is known now.

    These are all slots. In a race they are those of the blocks so far and of the next one, without
    the points that have been dropped; the first blocks can be trained at once. Every process that
    has read the same ended trials gets the same slots, and ended trials do not change.

    Args:
        spec: the study.
        values: returns what the ended trials of a race reached; called for a race alone.
    """
    if spec.race is None:
        return range(spec.slots)
    known = values()
    state = race_state(spec, known)
    if state.over:
        return frozenset(known)
    first = range(FIRST_BLOCKS * spec.trials)
    following = {state.blocks * spec.trials + point for point in state.training}
    return frozenset((*first, *known, *following))


def chosen_point(spec: StudySpec, rows: Sequence[FrozenTrial]) -> int:
    """Returns the point of a race that is to be promoted; see `RaceState.chosen`.

    What a prediction costs is the number of the network's weights.
    """
    weights: dict[int, float] = dict.fromkeys(range(spec.trials), math.inf)
    for row in rows:
        if known := stored_result(row).parameters:
            weights[point_of(spec, row.user_attrs[SLOT])] = known
    return race_state(spec, values_of(spec, rows)).chosen(weights)


def has_free_slot(database: Database, spec: StudySpec, ledger: Ledger) -> bool:
    """Whether a slot of the study waits for a driver."""

    def values() -> Values:
        found = database.transact(lambda one: outlines(one, [spec.name], claiming([spec])))
        return outlined_values(spec, found.get(spec.name, []))

    return ledger.has_free(spec.slots, planned(spec, values).__contains__)


def _reached(
    spec: StudySpec, state: TrialState, value: float | None, measured: Mapping[str, float]
) -> dict[str, float]:
    if state is not TrialState.COMPLETE or value is None:
        return {}
    reached = {**measured, spec.objective.metric: value}
    signs = {name: 1 if direction_of(name) == "maximize" else -1 for name in reached}
    return {name: signs[name] * one for name, one in reached.items()}
