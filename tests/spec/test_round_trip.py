"""What is written can be read: any valid study survives `to_yaml`."""

import json
import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuner.spec.resume import resume_problems
from tuner.spec.search_space import ChoiceDomain, Domain, FloatDomain, IntDomain, Scalar
from tuner.spec.study_spec import Gates, StudySpec
from tuner.spec.text.overrides import point_from_text
from tuner.spec.text.reader import parse_stored, parse_study
from tuner.spec.text.writer import to_stored, to_yaml

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(-1e6, 1e6) | st.floats(allow_nan=False, allow_infinity=False)
scalars: st.SearchStrategy[Scalar] = st.booleans() | st.integers() | numbers | texts
names = st.from_regex(r"[a-z]{1,3}_[a-z]{1,3}", fullmatch=True)
study_names = st.text(
    st.characters(categories=["L", "N"], include_characters=" '\"#-_.!&*%@|>,[]{}?=~"),
    min_size=1,
    max_size=40,
).filter(lambda name: name == name.strip() and not name.startswith("."))


@st.composite
def float_domains(draw: st.DrawFn) -> FloatDomain:
    log = draw(st.booleans())
    bounds = st.floats(1e-6, 1e6) if log else st.floats(-1e6, 1e6)
    low, high = sorted((draw(bounds), draw(bounds)))
    step = None if log else draw(st.none() | st.floats(max((high - low) / 50, 1e-3), 1e6))
    return FloatDomain(type="float", low=low, high=high, log=log, step=step)


@st.composite
def int_domains(draw: st.DrawFn) -> IntDomain:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000))
    high = draw(st.integers(low, low + 1000))
    step = 1 if log else draw(st.integers(1, 50))
    return IntDomain(type="int", low=low, high=high, log=log, step=step)


choice_domains = st.lists(scalars, min_size=1, max_size=5, unique=True).map(
    lambda choices: ChoiceDomain(type="choice", choices=tuple(choices))
)
domains: st.SearchStrategy[Domain] = float_domains() | int_domains() | choice_domains


def points_of(space: dict[str, Domain | Scalar]) -> st.SearchStrategy[dict[str, Scalar]]:
    return st.fixed_dictionaries({}, optional={n: values_of(e) for n, e in space.items()})


def values_of(entry: Domain | Scalar) -> st.SearchStrategy[Scalar]:
    if isinstance(entry, Scalar):
        return st.just(entry)
    grid = entry.grid()
    if grid is not None:
        return st.sampled_from(grid)
    assert isinstance(entry, FloatDomain)
    return st.floats(entry.low, entry.high)


@st.composite
def studies(draw: st.DrawFn) -> StudySpec:
    space = draw(st.dictionaries(names, domains | scalars, max_size=4))
    baseline = draw(st.lists(points_of(space), max_size=2))
    validation = draw(st.integers(0, 10_000))
    metric = draw(st.sampled_from(["accuracy", "macro_f1", "loss"]))
    return StudySpec.model_validate(
        {
            "name": draw(study_names),
            "dataset": draw(
                st.just("digits")
                | st.builds(
                    lambda args: {"name": "a:b", "args": args}, st.dictionaries(texts, scalars)
                )
            ),
            "model": "paper-cnn",
            "search_space": space,
            "baseline": baseline,
            "objective": f"val_{metric}" if validation else metric,
            "sampler": draw(
                st.sampled_from(["tpe", "random", "qmc", "cmaes", "gp"])
                | st.builds(lambda n: {"type": "tpe", "n_startup_trials": n}, st.integers(0, 99))
            ),
            "pruner": draw(st.sampled_from(["median", "hyperband", "successive-halving", "none"])),
            "trials": draw(st.integers(max(1, len(baseline)), 10**6)),
            "seeds": draw(st.integers(1, 9)),
            "epochs": draw(st.integers(1, 99)),
            "validation": validation,
            "workers": draw(st.just("auto") | st.integers(1, 9)),
            "confirmation": draw(
                st.just("off") | st.builds(lambda x: {"level": x}, st.floats(1e-9, 0.5))
            ),
            "promotion": {
                "refit": draw(st.booleans()),
                "model": draw(st.sampled_from(["digits", "null", "0x1", "a b"])),
                "gates": {
                    "test_accuracy": draw(st.none() | st.floats(0, 1)),
                    "parameters": draw(st.none() | st.integers(1, 10**9)),
                    "better_than_champion": draw(st.booleans()),
                },
            },
        }
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(studies())
def test_a_study_written_is_the_study_read(spec: StudySpec) -> None:
    written = to_yaml(spec)

    assert parse_study(written, "study.yaml") == spec
    assert to_yaml(parse_study(written, "study.yaml")) == written
    assert parse_stored(written, "of an earlier version") == spec
    assert parse_stored(to_stored(spec), "stored") == spec


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(studies())
def test_a_study_stored_before_a_gate_was_known_has_its_default(spec: StudySpec) -> None:
    stored = json.loads(to_stored(spec))
    stored["promotion"]["gates"] = {"test_accuracy": 0.5}

    read = parse_stored(json.dumps(stored), "of an earlier version")

    assert read.promotion.gates == Gates(test_accuracy=0.5)
    assert resume_problems(read, spec) == []


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(studies(), st.integers(1, 99))
def test_an_override_changes_what_it_names_and_no_more(spec: StudySpec, epochs: int) -> None:
    changed = parse_study(to_yaml(spec), "study.yaml", [f"epochs={epochs}"])

    assert changed == spec.model_copy(update={"epochs": epochs})


@settings(deadline=None)
@given(st.data(), domains)
def test_every_value_that_is_allowed_can_be_typed(data: st.DataObject, domain: Domain) -> None:
    spec = StudySpec.model_validate(
        {
            "name": "a",
            "dataset": "digits",
            "model": "paper-cnn",
            "epochs": 1,
            "validation": 9,
            "trials": 1,
            "search_space": {"x": domain},
        }
    )
    value = data.draw(values_of(domain))
    written = to_yaml(spec.model_copy(update={"baseline": ({"x": value},)}))
    typed = parse_study(written, "study.yaml").baseline[0]["x"]

    assert typed == value
    if not isinstance(value, str):
        assert point_from_text([f"x={str(value).lower()}"], spec) == {"x": value}


def test_a_study_reads_like_one_that_a_person_wrote() -> None:
    spec = StudySpec.model_validate(
        {
            "name": "sweep",
            "dataset": "mnist",
            "model": "paper-cnn",
            "search_space": {
                "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
                "batch_size": {"type": "choice", "choices": [64, 128]},
                "schedule": "cosine",
            },
            "baseline": [{"learning_rate": 0.001}],
            "sampler": "random",
            "pruner": "none",
            "trials": 3,
            "epochs": 2,
            "validation": 100,
        }
    )

    assert to_yaml(spec) == (
        "name: sweep\n"
        "dataset: mnist\n"
        "model: paper-cnn\n"
        "search_space:\n"
        "  learning_rate: {type: float, low: 0.0001, high: 0.01, log: true}\n"
        "  batch_size: {type: choice, choices: [64, 128]}\n"
        "  schedule: cosine\n"
        "baseline:\n"
        "  - {learning_rate: 0.001}\n"
        "objective: {metric: val_accuracy, direction: maximize}\n"
        "sampler: random\n"
        "trials: 3\n"
        "seeds: 1\n"
        "pruner: none\n"
        "epochs: 2\n"
        "validation: 100\n"
        "seed: 0\n"
        "backend: tensorflow\n"
        "pixels: unit\n"
        "precision: auto\n"
        "workers: auto\n"
        "epoch_limit_s: auto\n"
        "lease_s: 60\n"
        "max_retries: 2\n"
        "keep_models: 3\n"
        "confirmation: {finalists: 3, max_seeds: 10, margin: 0.001, level: 0.05}\n"
        "claims: []\n"
        "promotion:\n"
        "  model: sweep\n"
        "  refit: true\n"
        "  gates: {champion_margin: 0.002, better_than_champion: false}\n"
    )


@settings(deadline=None)
@given(float_domains() | int_domains())
def test_a_grid_is_counted_ordered_and_inside_its_domain(domain: FloatDomain | IntDomain) -> None:
    grid = domain.grid()

    if grid is None:
        assert domain.count() is None
        return
    assert len(grid) == domain.count()
    assert grid[0] == domain.low
    assert list(grid) == sorted(set(grid))
    assert all(value in domain for value in grid)


@given(float_domains() | int_domains(), st.floats() | st.integers())
def test_nothing_outside_the_bounds_is_inside(
    domain: FloatDomain | IntDomain, value: float
) -> None:
    if not domain.low <= value <= domain.high:
        assert value not in domain


def test_a_float_grid_counts_in_decimals() -> None:
    domain = FloatDomain(type="float", low=0.1, high=0.7, step=0.2)

    assert domain.grid() == (0.1, 0.3, 0.5, 0.7)
    assert 0.1 + 0.2 in domain
    assert 0.4 not in domain


def test_a_value_keeps_its_kind() -> None:
    assert True not in IntDomain(type="int", low=0, high=1)
    assert 1.0 not in IntDomain(type="int", low=0, high=1)
    assert True not in FloatDomain(type="float", low=0, high=1)
    assert 1 in FloatDomain(type="float", low=0, high=1)
    assert math.nan not in FloatDomain(type="float", low=0, high=1)
    assert "0.5" not in FloatDomain(type="float", low=0, high=1)
    assert 1.0 not in ChoiceDomain(type="choice", choices=(1, 2))
    assert True not in ChoiceDomain(type="choice", choices=(1, 2))
