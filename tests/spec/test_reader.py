"""Files and texts that are no study at all, and which source a message names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import ExitCode, SpecError
from tuner.spec.study_spec import StudySpec
from tuner.spec.text.reader import parse_study, read_study

MINIMAL = "name: a\ndataset: mnist\nmodel: paper-cnn\nepochs: 1\nvalidation: 10\n"
ALIAS_BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

TEXTS = {
    "": "must contain a study, got an empty file",
    "# nothing but a comment\n": "must contain a study, got an empty file",
    "- a\n": "must be a mapping, got a list",
    "name: a\nmodel: b: c\n": "line 2, column 9: mapping values are not allowed here",
    "name: [a\nmodel: b\n": "line 2, column 6: expected ',' or ']', but got ':'",
    "a: 1\n---\nb: 2\n": (
        "line 2, column 1: expected a single document in the stream, but found another document"
    ),
    "name: !!python/object/apply:os.system [ls]\n": (
        "line 1, column 7: tag '!!python/object/apply:os.system' is not allowed; write plain values"
    ),
    "name: !secret x\n": "line 1, column 7: tag '!secret' is not allowed; write plain values",
    "name: !!set {a}\n": "line 1, column 7: tag '!!set' is not allowed; write plain values",
    "trials: !!int many\n": "line 1, column 9: 'many' is no int",
    "name: a\nname: b\n": "line 2, column 1: duplicate key 'name', first in line 1",
    "x:\n  a: 1\n  a: 2\n": "line 3, column 3: duplicate key 'a', first in line 2",
    "1: a\n": "line 1, column 1: a key must be text, got '1'",
    "[a]: b\n": "line 1, column 1: a key must be text, got a mapping or list",
    "a: *b\n": "line 1, column 4: found undefined alias 'b'",
    "a: &a [*a]\n": "line 1, column 4: an alias must not be inside its own anchor",
    ALIAS_BOMB: "must have at most 100000 values, with aliases expanded",
    MERGE_BOMB: "must have at most 100000 values, with aliases expanded",
    f"a: {'[' * 30}{']' * 30}\n": "line 1, column 23: must be nested at most 20 levels deep",
    "[" * 5000: "must be nested at most 20 levels deep",
    f"seed: {'9' * 101}\n": "line 1, column 7: a number may have at most 100 characters",
    'name: "\\ud800"\n': "line 1, column 7: must be Unicode text",
    'name: "\\UFFFFFFFF"\n': "must be YAML: an escape is not a valid character",
    "name: \x00\n": (
        "must be YAML: unacceptable character #x0000: special characters are not allowed"
    ),
    "%YAML 1.1\n---\nname: a\n": "must be YAML 1.2, got %YAML 1.1",
    "name: " + "a" * 1_000_000: "must be at most 1000000 bytes",
}


@pytest.mark.parametrize("text", TEXTS, ids=[text[:20] for text in TEXTS])
def test_a_text_that_is_no_study_says_why(text: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_study(text, "study.yaml")

    assert str(refused.value) == f"study.yaml: {TEXTS[text]}"
    assert refused.value.exit_code is ExitCode.USAGE


def test_all_that_is_wrong_with_the_yaml_is_reported_at_once() -> None:
    with pytest.raises(SpecError) as refused:
        parse_study("a: !x b\na: 1\n", "study.yaml")

    assert refused.value.problems == (
        "line 2, column 1: duplicate key 'a', first in line 1",
        "line 1, column 4: tag '!x' is not allowed; write plain values",
    )


CONTENTS = {
    b"name: \xff\n": "must be UTF-8 text, got byte 0xff at position 6",
    b"\xff\xfen\x00": "must be UTF-8 text, got byte 0xff at position 0",
    b"#" * 1_000_001: "must be at most 1000000 bytes",
}


@pytest.mark.parametrize("content", CONTENTS, ids=["latin-1", "utf-16", "large"])
def test_a_file_that_is_no_text_says_why(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)

    with pytest.raises(SpecError) as refused:
        read_study(path)

    assert str(refused.value) == f"{path}: {CONTENTS[content]}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"

    with pytest.raises(SpecError) as refused:
        read_study(path)

    assert str(refused.value) == f"{path}: no such file"


def test_a_folder_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        read_study(tmp_path)

    assert str(refused.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(MINIMAL, encoding="utf-8-sig")

    assert read_study(path).name == "a"


@pytest.mark.parametrize("number", ["1e-4", "1e-04", "0.0001", "1.0E-4"])
def test_yaml_1_2_numbers_are_numbers(number: str) -> None:
    spec = parse_study(f"{MINIMAL}search_space: {{learning_rate: {number}}}\n", "study.yaml")

    assert spec.fixed == {"learning_rate": 0.0001}


@pytest.mark.parametrize("word", ["yes", "on", "2024-01-31", "0x", "="])
def test_words_of_older_yaml_are_text(word: str) -> None:
    spec = parse_study(f"{MINIMAL}search_space: {{x: {word}}}\n", "study.yaml")

    assert spec.fixed == {"x": word}


def test_anchors_and_merges_are_plain_yaml() -> None:
    space = "{a: &d {type: float, low: 0, high: 1}, b: {<<: *d, high: 2}}"

    spec = parse_study(f"{MINIMAL}trials: 1\nsearch_space: {space}\n", "study.yaml")

    assert 1.5 in spec.domains["b"]
    assert 1.5 not in spec.domains["a"]


JARGON = ("Input should", "pydantic", "Value error", "validation error", "type=", "ruamel")

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["tpe", "median", "float", "int", "choice", "val_loss", "auto", "a:b", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "low", "high", "choices", "step", "name", "args", "gates"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
keys = st.sampled_from([*StudySpec.model_fields, "nonsense"])


def message_about(text: str) -> str:
    try:
        parse_study(text, "study.yaml")
    except SpecError as refused:
        return str(refused)
    return ""


@given(st.dictionaries(keys, plain, max_size=6))
def test_whatever_the_file_says_the_answer_is_in_our_words(document: dict[str, object]) -> None:
    message = message_about(json.dumps(document))

    assert not any(word in message for word in JARGON)


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!%#|>'\"\\x0?,. \n\t<=~@`u"), max_size=40))
def test_whatever_the_text_only_spec_errors_come_out(text: str) -> None:
    with pytest.raises(SpecError):
        parse_study(text, "study.yaml")


def test_reading_a_study_imports_no_heavy_library() -> None:
    heavy = ["numpy", "optuna", "mlflow", "tensorflow", "keras", "sqlalchemy", "matplotlib"]
    code = f"import sys, tuner.spec.text.reader; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
