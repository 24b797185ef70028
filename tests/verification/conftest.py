"""Studies whose recorded trainings are compared with repetitions that a test makes up."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.bench import Bench, ScriptedPool, first_told, small_study
from tuner.spec.study_spec import StudySpec
from tuner.storage.studies import Catalog
from tuner.study.study import Study
from tuner.tracking.spool.spool_events import AttemptEnded
from tuner.training.plan import TrialResult


@pytest.fixture
def studied(bench: Bench) -> Callable[..., StudySpec]:
    """Runs a study; keywords replace its keys, `pool` is who trains it."""

    def run(pool: ScriptedPool | None = None, **changes: Any) -> StudySpec:
        spec = small_study(**{"trials": 2, **changes})
        bench.run(spec, pool or ScriptedPool())
        return spec

    return run


@pytest.fixture
def opened(bench: Bench) -> Callable[[StudySpec], Study]:
    """Opens a study as it is in the database now."""
    return lambda spec: Study(bench.home, bench.database, Catalog(bench.database).get(spec.name))


@pytest.fixture
def result_of(bench: Bench) -> Callable[[StudySpec, int], TrialResult]:
    """The result that a slot's first attempt had, as a repetition gives it."""

    def find(spec: StudySpec, slot: int) -> TrialResult:
        result = first_told(bench, spec, slot, 0, AttemptEnded).result
        assert isinstance(result, TrialResult)
        return result

    return find
