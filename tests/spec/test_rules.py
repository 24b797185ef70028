"""Every rule of the study file, by the exact message that breaking it gives."""

from collections.abc import Mapping

import pytest

from tuner.errors import SpecError
from tuner.spec.samplers import NoPruner, SuccessiveHalving
from tuner.spec.text.reader import parse_study

STUDY = {
    "name": "paper",
    "dataset": "mnist",
    "model": "paper-cnn",
    "search_space": "{rate: {type: float, low: 0.1, high: 0.5}}",
    "trials": "3",
    "epochs": "2",
    "validation": "100",
}
TOP_LEVEL = (
    "backend, baseline, claims, confirmation, dataset, epoch_limit_s, epochs, keep_models, "
    "lease_s, max_retries, model, name, objective, pixels, precision, promotion, pruner, race, "
    "refit_of, sampler, search_space, seed, seeds, trials, validation, workers"
)
CONDITIONAL = "conditional search spaces are not supported; list every parameter at the top level"
STUDY_NAME = "must not contain a slash or colon, start with a dot, or start or end with a space"
REGISTRY_NAME = "must be non-empty text without '/', ':' and control characters"
SAMPLERS = "cmaes, gp, grid, qmc, random, tpe"
PRUNERS = "hyperband, median, none, successive-halving"


def text_with(changes: Mapping[str, str | None]) -> str:
    entries = {**STUDY, **changes}
    return "".join(f"{key}: {value}\n" for key, value in entries.items() if value is not None)


def problems_with(changes: Mapping[str, str | None]) -> list[str]:
    with pytest.raises(SpecError) as refused:
        parse_study(text_with(changes), "study.yaml")
    return list(refused.value.problems)


def test_what_mlflow_would_cut_or_refuse_is_refused() -> None:
    long, name = "x" * 6001, "n" * 251
    entries = f"{{a: {{type: choice, choices: [{long}a, {long}b]}}, b: {long}, {name}: 1}}"
    changes = {"search_space": entries, "dataset": f"d:{'f' * 499}"}
    rule = "a value must have at most 6000 characters, which MLflow stores, got"
    assert [each.partition(": 'nnn")[0] for each in problems_with(changes)] == [
        "dataset.name: must have at most 500 characters, got 501",
        "search_space: a parameter's name must have at most 250 characters, got 251",
        f"search_space.a: {rule} 6002",
        f"search_space.b: {rule} 6001",
    ]
    fits = {"search_space": f"{{a: {long[1:]}, {name[1:]}: 1}}", "dataset": f"d:{'f' * 498}"}
    parse_study(text_with(fits), "study.yaml")


def space(entry: str) -> dict[str, str | None]:
    return {"search_space": f"{{x: {entry}}}"}


DOMAINS = {
    "{type: float, low: 2, high: 1}": [": low <= high must hold, got low=2.0, high=1.0"],
    "{type: int, low: 2, high: 1}": [": low <= high must hold, got low=2, high=1"],
    "{type: float, low: 0, high: 1, log: true}": [".low: must be > 0 on a log scale, got 0.0"],
    "{type: int, low: 0, high: 9, log: true}": [".low: must be > 0 on a log scale, got 0"],
    "{type: float, low: 0, high: 1, step: 0}": [".step: must be > 0, got 0.0"],
    "{type: int, low: 0, high: 9, step: -1}": [".step: must be > 0, got -1"],
    "{type: float, low: 1, high: 2, log: true, step: 0.1}": [
        ".step: must be left out on a log scale, got 0.1"
    ],
    "{type: int, low: 1, high: 9, log: true, step: 2}": [
        ".step: must be left out on a log scale, got 2"
    ],
    "{type: float, low: .nan, high: .inf}": [
        ".low: must be finite, got nan",
        ".high: must be finite, got inf",
    ],
    "{type: float, low: true, high: '1'}": [
        ".low: must be a number, got true",
        ".high: must be a number, got '1'",
    ],
    "{type: int, low: 1.0, high: true}": [
        ".low: must be a whole number, got 1.0",
        ".high: must be a whole number, got true",
    ],
    f"{{type: int, low: 0, high: {2**53 + 1}}}": [
        f".high: must be from -{2**53} to {2**53}; larger numbers are rounded, got {2**53 + 1}"
    ],
    "{type: float, low: 0, high: 1, log: yes}": [".log: must be true or false, got 'yes'"],
    "{type: float, low: 0}": [".high: is required"],
    "{low: 0, high: 1}": [".type: is required (known: choice, float, int)"],
    "{type: flaot, low: 0, high: 1}": [
        ".type: unknown type 'flaot'; did you mean 'float'? (known: choice, float, int)"
    ],
    "{type: [float], low: 0, high: 1}": [
        ".type: unknown type 'a list' (known: choice, float, int)"
    ],
    "{type: float, low: 0, hgih: 1, high: 1}": [
        ".hgih: unknown key 'hgih'; did you mean 'high'? (known: high, log, low, step, type)"
    ],
    "{type: choice, choices: []}": [".choices: must have at least 1 entry, got 0"],
    "{type: choice, choices: 3}": [".choices: must be a list, got 3"],
    "{type: choice, choices: [a, b, a]}": [".choices: must differ, got 'a' twice"],
    "{type: choice, choices: [1, true]}": [".choices: must differ, got 1 and true"],
    "{type: choice, choices: [1, .nan]}": [".choices[1]: must be finite, got nan"],
    "{type: choice, choices: [1, null]}": [
        ".choices[1]: must be a number, text or true/false, got null"
    ],
    "null": [": must be a number, text or true/false, got null"],
    "[1, 2]": [": must be a number, text or true/false, got a list"],
    ".inf": [": must be finite, got inf"],
    "{type: float, low: 0, high: 1, when: {y: 1}}": [f": {CONDITIONAL}"],
    "{type: int, low: 0, high: 1, parent: y}": [f": {CONDITIONAL}"],
    "{sgd: {momentum: 1}, adam: {beta: 2}}": [f": {CONDITIONAL}"],
    "{type: choice, choices: [{name: sgd}]}": [f": {CONDITIONAL}"],
}


@pytest.mark.parametrize("entry", DOMAINS)
def test_a_domain_says_what_is_wrong_with_it(entry: str) -> None:
    assert problems_with(space(entry)) == [f"search_space.x{rule}" for rule in DOMAINS[entry]]


RECIPE = {
    "batch_size: {type: choice, choices: [0, 64]}": ": choices must be >= 1, got 0",
    "batch_size: {type: int, low: 0, high: 64}": ".low: must be >= 1, got 0",
    "batch_size: 64.0": ": must be a whole number, got 64.0",
    "batch_size: true": ": must be a whole number, got true",
    "learning_rate: 0": ": must be > 0, got 0",
    "learning_rate: {type: float, low: 0, high: 1}": ".low: must be > 0, got 0.0",
    "label_smoothing: {type: float, low: 0, high: 1}": ".high: must be < 1, got 1.0",
    "rotate: 181": ": must be <= 180, got 181",
    "weight_decay: false": ": must be a number, got false",
    "schedule: {type: choice, choices: [constant, linear]}": (
        ": choices must be constant or cosine, got 'linear'"
    ),
    "optimizer: adma": ": must be adam, adamw, sgd, rmsprop, nadam or lion, got 'adma'",
}


@pytest.mark.parametrize("entry", RECIPE)
def test_what_the_recipe_could_not_take_is_refused(entry: str) -> None:
    name = entry.partition(":")[0]

    problems = problems_with({"search_space": f"{{{entry}}}"})

    assert problems == [f"search_space.{name}{RECIPE[entry]}"]


ENTRIES = {
    "name: a/b": [f": {STUDY_NAME}, got 'a/b'"],
    "name: a:b": [f": {STUDY_NAME}, got 'a:b'"],
    "name: .hidden": [f": {STUDY_NAME}, got '.hidden'"],
    'name: " a"': [f": {STUDY_NAME}, got ' a'"],
    'name: "a\\tb"': [": must not contain control characters, got 'a\\tb'"],
    'name: ""': [": must have 1 to 250 bytes, got 0"],
    f"name: {'a' * 251}": [": must have 1 to 250 bytes, got 251"],
    f"name: {'é' * 126}": [": must have 1 to 250 bytes, got 252"],
    "name: 2024": [": must be text, got 2024"],
    "name": [": is required"],
    "dataset: 7": [": must be a mapping, got 7"],
    'dataset: "a b:c"': [".name: must be a name or package.module:function, got 'a b:c'"],
    "dataset: {args: {}}": [".name: is required"],
    "dataset: {name: mnist, args: {size: null}}": [
        ".args.size: must be a number, text or true/false, got null"
    ],
    'model: "a.b:"': [": must be a name or package.module:function, got 'a.b:'"],
    'model: ""': [": must be a name or package.module:function, got ''"],
    "search_space: []": [": must be a mapping, got a list"],
    "search_space: {learning rate: 1}": [
        ": must be a parameter name of letters, digits and '_', got 'learning rate'"
    ],
    "baseline: {}": [": must be a list, got a mapping"],
    "baseline: [3]": ["[0]: must be a mapping, got 3"],
    "baseline: [{rate: 0.1}, {rate: 0.6}]": ["[1].rate: must be a number from 0.1 to 0.5, got 0.6"],
    "baseline: [{rat: 0.1}]": [
        "[0].rat: unknown parameter 'rat'; did you mean 'rate'? (known: rate)"
    ],
    "objective: acc": [
        ".metric: must be val_accuracy, val_macro_f1, val_loss, accuracy, macro_f1 or loss, "
        "got 'acc'"
    ],
    "objective: accuracy": [
        ".metric: with validation: 100 must be one of val_loss, val_accuracy, val_macro_f1, "
        "got 'accuracy'; write objective: val_accuracy"
    ],
    "objective: {metric: val_loss, direction: maximize}": [
        ".direction: must be minimize for val_loss, got 'maximize'"
    ],
    "sampler: tpee": [f": unknown sampler 'tpee'; did you mean 'tpe'? (known: {SAMPLERS})"],
    "sampler: {type: annealing}": [f".type: unknown sampler 'annealing' (known: {SAMPLERS})"],
    "sampler: {}": [f".type: is required (known: {SAMPLERS})"],
    "sampler: 3": [": must be a name or a mapping, got 3"],
    "sampler: {type: tpe, n_startup_trials: -1}": [".n_startup_trials: must be >= 0, got -1"],
    "sampler: {type: random, seed: 1}": [".seed: unknown key 'seed' (known: type)"],
    "pruner: medium": [f": unknown pruner 'medium'; did you mean 'median'? (known: {PRUNERS})"],
    "pruner: {type: hyperband, min_resource: 3}": [
        ".min_resource: must be <= epochs (2), or nothing is ever pruned, got 3"
    ],
    "pruner: {type: successive-halving, min_resource: 3}": [
        ".min_resource: must be <= epochs (2), or nothing is ever pruned, got 3"
    ],
    "trials: 0": [": must be >= 1, got 0"],
    "trials: -1": [": must be >= 1, got -1"],
    "trials: true": [": must be a whole number, got true"],
    "trials: 2.0": [": must be a whole number, got 2.0"],
    "trials: null": [": must be a whole number, got null"],
    "trials": [": is required when something is searched"],
    "seeds: 0": [": must be >= 1, got 0"],
    "epochs: 0": [": must be >= 1, got 0"],
    "epochs": [": is required"],
    "validation: -1": [": must be >= 0, got -1"],
    "seed: 4294967296": [": must be < 4294967296, got 4294967296"],
    "backend: torch": [": must be tensorflow or jax, got 'torch'"],
    "backend: null": [": must be tensorflow or jax, got null"],
    "pixels: raw": [": must be unit or bytes, got 'raw'"],
    "precision: float16": [": must be auto, float32 or bfloat16, got 'float16'"],
    "workers: 0": [": must be auto or a whole number >= 1, got 0"],
    "workers: true": [": must be auto or a whole number >= 1, got true"],
    "workers: many": [": must be auto or a whole number >= 1, got 'many'"],
    "max_retries: -1": [": must be >= 0, got -1"],
    "epoch_limit_s: 0": [": must be auto or a whole number >= 1, got 0"],
    "epoch_limit_s: soon": [": must be auto or a whole number >= 1, got 'soon'"],
    "keep_models: 0": [": must be >= 1, got 0"],
    "confirmation: null": [": must be a mapping or off, got null"],
    "confirmation: on": [": must be a mapping, got 'on'"],
    "confirmation: {max_seeds: 2}": [".max_seeds: must be >= 5, got 2"],
    "confirmation: {levle: 0.1}": [
        ".levle: unknown key 'levle'; did you mean 'level'? "
        "(known: finalists, level, margin, max_seeds)"
    ],
    "promotion: null": [": must be a mapping, got null"],
    "promotion: {model: a/b}": [f".model: {REGISTRY_NAME}, got 'a/b'"],
    "promotion: {model: 'a:b'}": [f".model: {REGISTRY_NAME}, got 'a:b'"],
    "promotion: {model: ''}": [f".model: {REGISTRY_NAME}, got ''"],
    "promotion: {model: what?}": [
        ".model: must not contain ? @ or ', since MLflow cannot find it then, got 'what?'"
    ],
    "promotion: {model: ..a}": [".model: must not be '.' or start with '..', got '..a'"],
    f"promotion: {{model: {251 * 'a'}}}": [".model: must have at most 250 bytes, got 251"],
    "promotion: {gate: {}}": [
        ".gate: unknown key 'gate'; did you mean 'gates'? (known: gates, model, refit)"
    ],
    "promotion: {gates: {test_accuracy: 99, train_time_s: true}}": [
        ".gates.test_accuracy: must be <= 1, got 99",
        ".gates.train_time_s: must be a number, got true",
    ],
    "epoch: 3": [f": unknown key 'epoch'; did you mean 'epochs'? (known: {TOP_LEVEL})"],
}


ELSEWHERE = {
    "baseline: [{}, {}, {}, {}]": ["trials: must cover the 4 baseline points, got 3"],
    "sampler: grid": ["search_space.rate: a grid needs a step or choices, got neither"],
    "name: digits@v1": [
        "promotion.model: must not contain ? @ or ', since MLflow cannot find it then, got "
        "'digits@v1'; its default is the study's name; state another name here"
    ],
}
"""Entries that break a rule of another key."""


@pytest.mark.parametrize("entry", [*ENTRIES, *ELSEWHERE])
def test_an_entry_says_what_is_wrong_with_it(entry: str) -> None:
    key, _, value = entry.partition(": ")
    rules = ELSEWHERE.get(entry) or [f"{key}{rule}" for rule in ENTRIES[entry]]
    assert problems_with({key: value or None}) == rules


def test_a_grid_has_no_more_trials_than_points() -> None:
    grid = "{a: {type: choice, choices: [1, 2]}, b: {type: int, low: 1, high: 2}}"

    problems = problems_with({"search_space": grid, "sampler": "grid", "trials": "5"})

    assert problems == ["trials: the grid has 4 points, got 5"]


def test_a_grid_that_nobody_could_train_is_refused() -> None:
    changes = {**space("{type: float, low: 0, high: 1, step: 1e-9}"), "sampler": "grid"}

    problems = problems_with(changes)

    assert problems == ["search_space: a grid may have at most 100000 points, got 1000000001"]


def test_a_fixed_value_is_no_baseline_to_differ_from() -> None:
    problems = problems_with({**space("1"), "baseline": "[{x: 2}, {x: true}]"})

    assert problems == [
        "baseline[0].x: is fixed at 1, got 2",
        "baseline[1].x: is fixed at 1, got true",
    ]


def test_a_race_states_each_of_its_points_and_ends_none_early() -> None:
    changes = {
        **space("{type: int, low: 1, high: 9}"),
        "baseline": "[{x: 1}, {}]",
        "trials": "3",
        "pruner": "median",
        "seeds": "2",
        "race": "{study: other, against: 3}",
    }

    assert problems_with(changes) == [
        "baseline: must state each point of a race, 3, got 2",
        "baseline[1]: must be a whole point in a race, lacks x",
        "pruner: must be none in a race, got median",
        "seeds: must be left out in a race, got 2",
        "race.against: must be one of the 3 points, from 0, got 3",
    ]


def test_a_claim_compares_two_points_of_the_space_by_a_known_metric() -> None:
    changes = {
        **space("{type: int, low: 1, high: 9}, y: {type: int, low: 1, high: 9}, patience: 3"),
        "baseline": "[{x: 1}]",
        "trials": "3",
        "claims": (
            "[{name: a, better: {x: 2, rate: 3}, than: {x: 10}},"
            " {name: a, better: {x: 1}, than: {}, metric: val_loss},"
            " {name: b, better: {y: 1, patience: 3}, than: {x: 2}}]"
        ),
    }

    assert problems_with(changes) == [
        "claims[0].better.rate: unknown parameter 'rate' (known: patience, x, y)",
        "claims[0].than.x: must be a whole number from 1 to 9, got 10",
        "claims[1].name: must differ, got 'a' twice",
        "claims[1].margin: is required for val_loss; the confirmation's is for val_accuracy",
        "claims[1]: must compare two different points, got the same twice",
        "claims[2].better.patience: a race trains a fixed number of epochs",
        "baseline[0]: must state y, which 'b' changes on one side alone",
    ]
    wrong = "[{name: a, better: {x: 2}, than: {x: 3}, metric: gap}]"
    assert problems_with({**changes, "claims": wrong}) == [
        "claims[0].metric: must be val_accuracy, val_macro_f1, val_loss or train_time_s, got 'gap'"
    ]


def test_claims_need_what_a_confirmation_needs() -> None:
    changes = {
        **space("{type: int, low: 1, high: 9}"),
        "validation": "0",
        "objective": "loss",
        "trials": "3",
        "confirmation": "off",
        "claims": "[{name: a, better: {x: 2}, than: {x: 3}}]",
    }

    assert problems_with(changes) == [
        "claims: need validation images to compare points on, got validation: 0",
        "claims: are decided by the confirmation, got confirmation: off",
        "claims: change the first baseline point, got no baseline",
    ]


def test_everything_is_reported_at_once() -> None:
    changes = {**space("{type: float, low: 0, high: 1, log: true}"), "epochs": "0", "who": "me"}

    assert problems_with(changes) == [
        "search_space.x.low: must be > 0 on a log scale, got 0.0",
        "epochs: must be >= 1, got 0",
        f"who: unknown key 'who' (known: {TOP_LEVEL})",
    ]


def test_a_message_names_file_key_rule_and_value() -> None:
    with pytest.raises(SpecError) as refused:
        parse_study(text_with({"epochs": "0"}), "studies/mine.yaml")

    assert str(refused.value) == "studies/mine.yaml: epochs: must be >= 1, got 0"


def test_trials_may_be_left_out_where_nothing_is_searched() -> None:
    assert parse_study(text_with({**space("1"), "trials": None}), "study.yaml").trials == 1


def test_a_grid_without_trials_is_the_whole_grid() -> None:
    grid = "{a: {type: choice, choices: [1, 2]}, b: {type: float, low: 0, high: 1, step: 0.25}}"
    text = text_with({"search_space": grid, "sampler": "grid", "trials": None})

    assert parse_study(text, "study.yaml").trials == 10


def test_the_registered_model_is_named_after_the_study() -> None:
    assert parse_study(text_with({}), "study.yaml").promotion.model == "paper"


@pytest.mark.parametrize("metric", ["val_loss", "loss"])
def test_the_direction_follows_from_the_metric(metric: str) -> None:
    changes = {"objective": metric, "validation": "0" if metric == "loss" else "9"}

    assert parse_study(text_with(changes), "study.yaml").objective.direction == "minimize"


def test_the_default_pruner_fits_a_study_of_one_epoch() -> None:
    assert parse_study(text_with({"epochs": "1"}), "study.yaml").pruner == SuccessiveHalving()


def test_with_several_seeds_nothing_is_pruned_unless_the_file_says_so() -> None:
    several = text_with({"seeds": "3"})

    assert parse_study(several, "study.yaml").pruner == NoPruner()
    assert parse_study(text_with({}), "study.yaml").pruner == SuccessiveHalving()
    stated = parse_study(text_with({"seeds": "3", "pruner": "successive-halving"}), "study.yaml")
    assert stated.pruner == SuccessiveHalving()
