"""Which code trained which trials."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.study.conftest import Bench
from tuner.errors import UsageError
from tuner.spec.study import StudySpec
from tuner.study.catalog import Catalog
from tuner.study.code_versions import CodeVersions

OLD, NEW, NEWER = ({"networks.py": f"units = {number}\n"} for number in (1, 2, 3))


def test_other_code_is_refused_until_it_is_accepted(
    each_bench: Bench, study_spec: Callable[..., StudySpec]
) -> None:
    """A study without a version, such as one of before there were any, takes what comes first."""
    spec = study_spec()
    each_bench.record(spec)
    versions = CodeVersions(each_bench.database, spec.name)
    versions.check(NEW)
    assert not versions.settle(OLD, trials=2, accepts=False)
    assert not versions.settle(OLD, trials=3, accepts=True)
    for refuse in (versions.check, lambda code: versions.settle(code, trials=3, accepts=False)):
        with pytest.raises(UsageError, match=r"-units = 1\n\+units = 2\n.*--accept-new-code"):
            refuse(NEW)
    before = Catalog(each_bench.database).wanted()
    assert versions.settle(NEWER, trials=3, accepts=True)
    assert versions.settle(NEW, trials=3, accepts=True)  # the other has trained nothing
    versions.check(NEW)
    assert [(each.from_trial, each.files) for each in versions.all()] == [(0, OLD), (3, NEW)]
    assert Catalog(each_bench.database).wanted() != before, "workers look again"


def test_of_two_drivers_that_begin_a_study_with_other_code_one_is_refused(
    each_bench: Bench, study_spec: Callable[..., StudySpec]
) -> None:
    spec = study_spec()
    each_bench.record(spec)

    def begin(code: dict[str, str]) -> bool:
        try:
            CodeVersions(each_bench.database, spec.name).settle(code, trials=0, accepts=False)
        except UsageError:
            return False
        return True

    with ThreadPoolExecutor(8) as drivers:
        begun = list(drivers.map(begin, [OLD, NEW] * 4))
    assert begun in ([True, False] * 4, [False, True] * 4)
