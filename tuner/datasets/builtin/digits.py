"""scikit-learn's digits: small, real, without download; the tests train on them.

E. Alpaydin, C. Kaynak, 1998: https://doi.org/10.24432/C50P49.
"""

import numpy as np

from tuner.datasets.dataset import Dataset, Split
from tuner.datasets.split import stratified_split
from tuner.datasets.transform import DRAWINGS

TEST_ROWS = 360


def load() -> Dataset:
    """Returns 1,437 training and 360 test images of 8x8, uint8.

    The original's steps 0 to 16 are stretched to 0 to 255. The test rows are always the same,
    stratified.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train, test = stratified_split(digits.target, TEST_ROWS, seed=0)
    return Dataset(
        Split(images[train], digits.target[train]),
        Split(images[test], digits.target[test]),
        tuple(str(name) for name in digits.target_names),
        "scikit-learn's load_digits",
        DRAWINGS,
    )
