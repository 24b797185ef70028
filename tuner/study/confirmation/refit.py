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
    for name in study.sibling_names():
        if not name.startswith(_name(study, 1)):
            continue
        found = study.sibling(name)
        if found is not None and found.spec.refit_of and found.spec.origin == study.name:
            yield found


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
    chosen = Finalist(point=point, params=dict(params))
    record = study.record
    for known in find_refits(study):
        spec = _refit(study.spec, known.name, chosen, epochs)
        if _is_same(known, spec, study):
            break
    else:
        taken = set(study.sibling_names())
        names = (_name(study, number) for number in itertools.count(1))
        spec = _refit(study.spec, next(each for each in names if each not in taken), chosen, epochs)
        study.create_sibling(spec)
    return StudyFile(spec, record.source, folders_here(record.code_path), record.overrides)


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
