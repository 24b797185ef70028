import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tuner.datasets.published.idx import decode, encode, sha256
from tuner.errors import DataError

byte_arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0))


@given(byte_arrays)
def test_what_is_encoded_is_decoded(array: npt.NDArray[np.uint8]) -> None:
    decoded = decode(encode(array))
    assert decoded.shape == array.shape
    assert np.array_equal(decoded, array)


@given(byte_arrays)
def test_digest_is_that_of_the_file(array: npt.NDArray[np.uint8]) -> None:
    assert sha256(array) == hashlib.sha256(encode(array)).hexdigest()


def test_header_is_that_of_the_published_files() -> None:
    labels = np.zeros(60000, np.uint8)
    assert encode(labels)[:8] == bytes.fromhex("00000801 0000ea60")


@given(byte_arrays, st.data())
def test_a_cut_file_is_refused(array: npt.NDArray[np.uint8], data: st.DataObject) -> None:
    content = encode(array)
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(DataError, match="IDX file"):
        decode(content[:cut])


def test_other_types_are_refused() -> None:
    with pytest.raises(DataError, match="must be uint8, got float32"):
        encode(np.zeros(3, np.float32))
