"""The refit: a study that trains one point again, on the validation rows too."""

import itertools
from collections.abc import Iterator, Mapping

from tuner.search.points import refit_seed
from tuner.spec.resume import resume_problems
from tuner.spec.search_space import Scalar
from tuner.spec.study_spec import Refit, StudySpec
from tuner.study.code_folders import folders_here
from tuner.study.confirmation.race_study import Finalist, fixed_points
from tuner.study.study import Study
from tuner.study.study_file import StudyFile


def find_refits(study: Study) -> Iterator[Study]:
    """Yields the refits of a study, the oldest first, to be used while the study is open."""
    number = 1
    while (found := study.sibling(_name(study, number))) is not None:
        if found.spec.refit_of is not None and found.spec.refit_of.study == study.name:
            yield found
        number += 1


def refit_study(study: Study, point: int, params: Mapping[str, Scalar], epochs: int) -> StudyFile:
    """The study that trains a point again on all rows, ready to run: an equal one, or a new one.

    Its seed follows from that of the study, so no lucky one can be chosen. A new one is created
    with the study's data set and code.

    Args:
        study: the study.
        point: the point's number.
        params: its searched parameters.
        epochs: the epochs to train.

    Raises:
        SpecError: the study's name is too long.
    """
    for number in itertools.count(1):
        spec = _refit(
            study.spec, _name(study, number), Finalist(point=point, params=params), epochs
        )
        known = study.sibling(spec.name)
        if known is None:
            study.create_sibling(spec)
        elif not _is_same(known, spec, study):
            continue
        record = study.record
        return StudyFile(spec, record.source, folders_here(record.code_path), record.overrides)
    raise AssertionError("the numbers do not end")


def _name(study: Study, number: int) -> str:
    return f"{study.name}-refit" if number == 1 else f"{study.name}-refit-{number}"


def _refit(spec: StudySpec, name: str, point: Finalist, epochs: int) -> StudySpec:
    return fixed_points(
        spec,
        name,
        [point.params],
        epochs=epochs,
        seed=refit_seed(spec),
        validation=0,
        objective=spec.objective.metric.removeprefix("val_"),
        refit_of=Refit(study=spec.name, point=point.point),
    )


def _is_same(known: Study, spec: StudySpec, study: Study) -> bool:
    same_data = known.record.dataset.digest == study.record.dataset.digest
    return same_data and not resume_problems(known.spec, spec)
