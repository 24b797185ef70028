"""The study that confirms another one: a race of its best points and its baseline.

It is named after its study, and everything that holds for a study holds for it: it resumes, is
retried, tracked, followed, and runs on every kind of worker.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import median, median_high
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from tuner.errors import RefusedError, SpecError
from tuner.search.points import claimed_points, confirmation_seed, point_of
from tuner.search.race import FIRST_BLOCKS
from tuner.search.trials import stored_result
from tuner.spec.names import CONFIRMATION
from tuner.spec.search_space import Scalar
from tuner.spec.section import STORED, Frozen, problems_in
from tuner.spec.study_spec import FEWEST_SEEDS, Confirmation, Race, StudySpec
from tuner.spec.text.writer import study_document
from tuner.storage.tables import SLOT
from tuner.study.study import Study
from tuner.study.study_file import StudyFile
from tuner.words import command, count, seconds

_PATIENCE = "patience"
"""The parameter that ends a training early; a confirmation trains a fixed number of epochs."""


class Finalist(Frozen):
    """A point that races, as the study knows it."""

    point: int
    """Its number in the study."""
    params: dict[str, Scalar]
    """The searched parameters."""


class Forecast(Frozen):
    """What a confirmation costs, by the study's own trainings."""

    fewest: int
    """The number of trainings, if the race ends as early as it can."""
    most: int
    training_s: float
    """Seconds of one training."""

    def __str__(self) -> str:
        least = f"{self.fewest} to " * (self.fewest < self.most)
        trainings = f"{least}{count(self.most, 'training')}"
        return (
            f"{trainings} of about {seconds(self.training_s)} each, "
            "as many at a time as trainers start"
        )


def confirmation_name(study: str) -> str:
    """The name of a study's confirmation."""
    return f"{study}{CONFIRMATION}"


def rules_of(stated: Confirmation, changes: Mapping[str, Any]) -> Confirmation:
    """The rules that are stated, with changes.

    Raises:
        SpecError: a change is unknown or breaks a rule.
    """
    try:
        return Confirmation.model_validate({**stated.model_dump(), **changes})
    except ValidationError as error:
        found = problems_in(error, Confirmation.model_fields)
        raise SpecError("confirmation", map(str, found)) from error


def find_confirmation(study: Study) -> Study | None:
    """The confirmation of a study, to be used while the study is open; None if there is none."""
    found = study.sibling(confirmation_name(study.name))
    race = None if found is None else found.spec.race
    return found if race is not None and race.study == study.name else None


def why_no_rivals(study: Study, rules: Confirmation) -> str:
    """Returns why a confirmation by these rules has no two points to compare; empty if it has.

    Raises:
        RefusedError: no trial has completed, or the baseline has not been trained yet.
    """
    if len(_finalists(study, rules)[0]) > 1:
        return ""
    two = rules.model_copy(update={"finalists": 2})
    if len(_finalists(study, two)[0]) > 1:
        return "one finalist and no baseline leave nothing to compare"
    return "the study has a single point to compare"


def begin_confirmation(
    study: Study, changes: Mapping[str, Any], say: Callable[[str], None]
) -> StudyFile:
    """Does as `confirmation_of`, and says what a new confirmation will cost."""
    is_new = find_confirmation(study) is None
    file = confirmation_of(study, changes)
    if is_new and (cost := forecast(study, file.spec)) is not None:
        say(f"{file.spec.name}: {cost}")
    return file


def confirmation_of(study: Study, changes: Mapping[str, Any]) -> StudyFile:
    """The study that confirms this one, ready to run: the one that has begun, or a new one.

    A new one is created with the study's data set and code, so that it runs with no other.

    Args:
        study: the study.
        changes: rules that replace those in the study's file. For a race that has begun, only
            `max_seeds` may be another than before.

    Raises:
        RefusedError: nothing can be confirmed: the study has no validation images, no completed
            trial, or only one point and no claims; or it is a confirmation itself; or its claims
            have changed since the race began.
        SpecError: a rule is invalid, or the study's name is too long.
    """
    begun = find_confirmation(study)
    if begun is not None and begun.spec.race is not None:
        _check_same_claims(study, begun.spec)
        rules = rules_of(begun.spec.race.rules, changes)
        race = begun.spec.race.model_copy(update={"rules": rules})
        spec = begun.spec.model_copy(update={"race": race, "workers": study.spec.workers})
    else:
        spec = _new_confirmation(
            study, rules_of(study.spec.confirmation or Confirmation(), changes)
        )
        study.create_sibling(spec)
    return StudyFile.stored(spec, study.record)


def _new_confirmation(study: Study, rules: Confirmation) -> StudySpec:
    spec = study.spec
    if (origin := spec.origin) is not None:
        raise RefusedError(f"{spec.name} trains points of {origin} again, and is not confirmed")
    if not spec.validation:
        raise RefusedError(f"{spec.name} has no validation images to compare its points on")
    if not spec.claims and (why := why_no_rivals(study, rules)):
        raise RefusedError(
            f"{spec.name} is not confirmed: {why}; train further points, state a baseline, or "
            "let more than one point race with --finalists"
        )
    finalists, against = _finalists(study, rules)
    racing = [each.params for each in finalists]
    claimed = _claimed_alone(spec, racing, against)
    return fixed_points(
        spec,
        confirmation_name(spec.name),
        [*racing, *claimed],
        epochs=best_epochs(study, [each.point for each in finalists]),
        seed=confirmation_seed(spec),
        race=Race(
            study=spec.name,
            against=against,
            claimed=len(claimed),
            points=tuple(each.point for each in finalists),
            rules=rules,
        ),
    )


def _claimed_alone(
    spec: StudySpec, racing: Sequence[dict[str, Scalar]], against: int | None
) -> list[dict[str, Scalar]]:
    """The points of claims that do not race besides."""
    if against is None:
        return []
    whole = spec.model_copy(update={"baseline": (racing[against],)})
    found: list[dict[str, Scalar]] = []
    for pair in claimed_points(whole):
        found += [point for point in pair if point not in (*racing, *found)]
    return found


def _check_same_claims(study: Study, race: StudySpec) -> None:
    """Checks that a race decides the claims that its study states now."""
    if study.spec.claims != race.claims:
        raise RefusedError(
            f"{race.name} began with other claims than {study.name} states now, and what was seen "
            f"since must not choose them; state them in a study with another name, or begin anew: "
            f"{command('delete', race.name)}"
        )


def fixed_points(
    spec: StudySpec,
    name: str,
    points: Sequence[Mapping[str, Scalar]],
    *,
    epochs: int,
    seed: int,
    **changes: object,
) -> StudySpec:
    """A study that trains stated points of another study for a fixed number of epochs.

    Args:
        spec: the other study.
        name: the name of the new one.
        points: the searched parameters of each point.
        epochs: the epochs of each training.
        seed: the seed of the new study.
        changes: further entries that differ from those of `spec`.

    Raises:
        SpecError: the name is too long.
    """
    space = {key: entry for key, entry in spec.search_space.items() if key != _PATIENCE}
    document: dict[str, Any] = {
        **study_document(spec),
        "name": name,
        "search_space": space,
        "baseline": [dict(point) for point in points],
        "sampler": "random",
        "pruner": "none",
        "trials": len(points),
        "seeds": 1,
        "epochs": epochs,
        "seed": seed,
        **changes,
    }
    try:
        return StudySpec.model_validate(document, context=STORED)
    except ValidationError as error:
        problems = problems_in(error, StudySpec.model_fields)
        raise SpecError(name, map(str, problems)) from error


def forecast(study: Study, confirmation: StudySpec) -> Forecast | None:
    """What the confirmation costs, by the median time of the study's epochs; None if unknown."""
    results = [stored_result(row) for row in study.trials.all()]
    epochs = [
        each.total_time_s / each.epochs for each in results if each.total_time_s and each.epochs
    ]
    if not epochs:
        return None
    return Forecast(
        fewest=(FEWEST_SEEDS if confirmation.claims else FIRST_BLOCKS) * confirmation.trials,
        most=confirmation.slots,
        training_s=confirmation.epochs * median(epochs),
    )


def _finalists(study: Study, rules: Confirmation) -> tuple[list[Finalist], int | None]:
    """The points that race, and the index of the baseline among them; None if there is none.

    Of equal points, which a sampler may choose, one races.
    """
    summary = study.summary()
    summary.best_point()  # refuses a study without one
    stated = [trial for trial in summary.trials if point_of(study.spec, trial.slot) == 0]
    if study.spec.baseline and not stated:
        raise RefusedError(f"the baseline of {study.name} has not been trained yet")
    baseline = Finalist(point=0, params=raced(stated[0].params)) if study.spec.baseline else None
    finalists: list[Finalist] = []
    for each in summary.points:
        params = raced(each.params)
        known = [other.params for other in (*finalists, baseline) if other is not None]
        if params not in known and len(finalists) < rules.finalists:
            finalists.append(Finalist(point=each.point, params=params))
    return (finalists, None) if baseline is None else ([*finalists, baseline], len(finalists))


def raced(params: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The parameters of a point that a confirmation has too."""
    return {name: value for name, value in params.items() if name != _PATIENCE}


def best_epochs(study: Study, points: Collection[int]) -> int:
    """The number of epochs that the study has learnt: the median of the points' best ones."""
    best = [
        stored_result(row).best_epoch
        for row in study.trials.all()
        if has_value(row) and point_of(study.spec, row.user_attrs[SLOT]) in points
    ]
    known = [epoch for epoch in best if epoch is not None]
    return median_high(known) if known else study.spec.epochs


def has_value(row: FrozenTrial) -> bool:
    """Whether a trial has completed with a value."""
    return row.state is TrialState.COMPLETE and row.value is not None
