"""Studies that a scripted pool has trained."""

from collections.abc import Callable

import pytest

from tests.bench import Bench
from tuner.spec.study_spec import StudySpec
from tuner.storage.studies import Catalog
from tuner.study.study import Study


@pytest.fixture
def opened(bench: Bench) -> Callable[[StudySpec], Study]:
    """Opens the study of a spec that has run."""
    return lambda spec: Study(bench.home, bench.database, Catalog(bench.database).get(spec.name))
