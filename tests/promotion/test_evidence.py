"""The test rows: written down before they are opened, and scored as scikit-learn does."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.datasets.store import DatasetInfo
from tuner.errors import DataError
from tuner.inference.predictor import Predictor
from tuner.models.model_file import load_verified, sha256_of
from tuner.promotion.judging.evidence import HeldOut
from tuner.storage.test_set_accesses import TestSetAccesses


@pytest.fixture(scope="module")
def predictor(model_file: Path) -> Predictor:
    return Predictor(load_verified(model_file, sha256_of(model_file)))


def test_scoring_looks_once_and_agrees_with_scikit_learn(
    predictor: Predictor,
    digits: DatasetInfo,
    model_file: Path,
    test_images: NDArray[np.uint8],
    looks: TestSetAccesses,
) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    sha256 = sha256_of(model_file)
    evaluation = HeldOut(digits, looks, 3, "evaluate").score(predictor, sha256)
    labels = np.load(digits.test / "labels.npy")
    model = load_verified(model_file, sha256)
    predicted = model.predict(test_images / np.float32(255), verbose=0).argmax(axis=1)
    assert evaluation.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert evaluation.macro.f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert np.sum(evaluation.confusion) == digits.test_count
    (look,) = looks.all()
    assert (look.trial, look.command, look.model_sha256) == (3, "evaluate", sha256)
    assert look.evidence is not None
    assert look.evidence["test_accuracy"] == evaluation.accuracy


def test_a_look_is_written_down_before_the_rows_are_opened(
    predictor: Predictor, digits: DatasetInfo, looks: TestSetAccesses, tmp_path: Path
) -> None:
    gone = digits.model_copy(update={"folder": tmp_path})
    with pytest.raises(DataError, match="not a readable array"):
        HeldOut(gone, looks, 3, "promote").score(predictor, "a" * 64)
    (look,) = looks.all()
    assert look.evidence is None
