"""The studies, the schema and the documentation that are shipped with the reader."""

import json
from itertools import chain
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from tuner.search.points import claimed_points
from tuner.spec.recipe import Recipe
from tuner.spec.samplers import PRUNERS, SAMPLERS, PrunerName, SamplerName
from tuner.spec.section import Section, type_name
from tuner.spec.study_spec import Gates, StudySpec
from tuner.spec.text.json_schema import json_schema, schema_text
from tuner.spec.text.reader import parse_study, read_study
from tuner.spec.text.writer import to_yaml
from tuner.spec.text.yaml import load

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())

each_study = pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])


def test_these_studies_are_shipped() -> None:
    assert [path.stem for path in STUDIES] == [
        "paper-baseline",
        "paper-claims",
        "paper-first-epoch",
        "paper-sweep",
        "quickstart",
        "search-table",
    ]


@each_study
def test_a_shipped_study_is_valid_and_named_after_its_file(path: Path) -> None:
    spec = read_study(path)

    assert spec.name == path.stem
    assert parse_study(to_yaml(spec), "again") == spec


@each_study
def test_a_shipped_study_fits_the_schema_and_names_it_to_editors(path: Path) -> None:
    text = path.read_text()

    VALIDATOR.validate(load(text, str(path)))
    VALIDATOR.validate(load(to_yaml(read_study(path)), str(path)))
    assert text.startswith("# yaml-language-server: $schema=../docs/study.schema.json\n")


def test_the_baseline_study_trains_the_papers_point_five_times() -> None:
    spec = read_study(ROOT / "studies/paper-baseline.yaml")

    assert spec.slots == spec.keep_models == 5
    assert spec.domains == {}
    assert spec.fixed == {"learning_rate": 0.001, "dropout_rate": 0.5, "batch_size": 128}


def test_the_claims_study_searches_nothing_and_has_four_points_to_compare() -> None:
    spec = read_study(ROOT / "studies/paper-claims.yaml")

    assert spec.slots == len(spec.baseline) == 1
    points = [point for pair in claimed_points(spec) for point in pair]
    assert len({tuple(sorted(point.items())) for point in points}) == 4


def test_the_committed_schema_is_the_generated_one() -> None:
    committed = (ROOT / "docs/study.schema.json").read_text()

    assert committed == schema_text(), "run: tuner schema > docs/study.schema.json"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


FITTING: dict[str, list[object]] = {
    "sampler": ["tpe", {"type": "tpe", "n_startup_trials": 3}],
    "pruner": ["none", {"type": "hyperband"}],
    "dataset": ["mnist", {"name": "a:b", "args": {"size": 28}}],
    "objective": ["val_loss", {"metric": "val_loss"}],
    "workers": ["auto", 2],
    "search_space": [{}, {"x": 1, "learning_rate": {"type": "float", "low": 1, "high": 2}}],
    "promotion": [{}, {"gates": {}}, {"model": "digits"}],
}
UNFITTING: dict[str, list[object]] = {
    "sampler": ["tpee", {"n_startup_trials": 3}, {"type": "random", "n_startup_trials": 3}, 3],
    "pruner": ["medium", {}],
    "dataset": [3, {}],
    "objective": ["acc", {"metric": "acc"}],
    "workers": ["many", 0],
    "search_space": [{"x": None}, {"x": {"low": 0, "high": 1}}, {"batch_size": {"type": "real"}}],
    "promotion": [None, {"gate": {}}],
    "epoch": [3],
    "trials": [0, True],
}


def with_entry(key: str, value: object) -> dict[str, object]:
    study: dict[str, object] = {
        "name": "a",
        "dataset": "mnist",
        "model": "paper-cnn",
        "trials": 3,
        "epochs": 1,
        "validation": 9,
    }
    return {**study, key: value}


def cases(table: dict[str, list[object]]) -> list[tuple[str, object]]:
    return list(chain.from_iterable([(key, value) for value in table[key]] for key in table))


@pytest.mark.parametrize(("key", "value"), cases(FITTING))
def test_the_schema_knows_what_the_reader_takes(key: str, value: object) -> None:
    study = with_entry(key, value)

    assert VALIDATOR.is_valid(study)
    assert parse_study(json.dumps(study), "study.yaml").name == "a"


@pytest.mark.parametrize(("key", "value"), cases(UNFITTING))
def test_the_schema_refuses_what_the_reader_refuses(key: str, value: object) -> None:
    assert not VALIDATOR.is_valid(with_entry(key, value))


def test_every_entry_is_described() -> None:
    schema = json_schema()
    definitions = [schema, *schema["$defs"].values()]
    entries = chain.from_iterable(part["properties"].items() for part in definitions)

    assert [name for name, entry in entries if name != "type" and "description" not in entry] == []


def test_the_short_names_are_those_of_the_classes() -> None:
    assert list(get_args(SamplerName)) == [type_name(sampler) for sampler in SAMPLERS]
    assert list(get_args(PrunerName)) == [type_name(pruner) for pruner in PRUNERS]


def options(sections: tuple[type[Section], ...]) -> list[str]:
    return [name for section in sections for name in section.model_fields if name != "type"]


def test_the_documentation_has_every_name() -> None:
    text = (ROOT / "docs/study-file.md").read_text()
    names = [
        *StudySpec.model_fields,
        *Recipe.model_fields,
        *Gates.model_fields,
        *get_args(SamplerName),
        *get_args(PrunerName),
        *options(SAMPLERS),
        *options(PRUNERS),
    ]

    assert [name for name in names if f"`{name}" not in text] == []


def test_every_study_in_the_documentation_is_valid() -> None:
    text = (ROOT / "docs/study-file.md").read_text()
    blocks = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    smallest = next(block for block in blocks if block.startswith("name:"))
    entries = [block for block in blocks if not block.startswith(("name:", "#", "dataset:"))]

    assert parse_study(smallest, "docs").slots == 1
    parse_study(f"{smallest}trials: 9\n{''.join(entries)}", "docs")
