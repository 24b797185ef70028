"""The IDX format, in which MNIST is published: a big-endian header, then the bytes.

Only unsigned bytes are known here. Source: http://yann.lecun.com/exdb/mnist/.
"""

import hashlib
import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from tuner.errors import DataError

_UNSIGNED_BYTE = 0x08


def header(array: npt.NDArray[Any]) -> bytes:
    """The bytes before the data: two zeros, the type, the rank, each dimension in four bytes.

    Raises:
        DataError: the array is not uint8.
    """
    if array.dtype != np.uint8:
        raise DataError(f"an IDX array must be uint8, got {array.dtype}")
    return struct.pack(f">HBB{array.ndim}I", 0, _UNSIGNED_BYTE, array.ndim, *array.shape)


def encode(array: npt.NDArray[Any]) -> bytes:
    """The uint8 array of any shape as an uncompressed IDX file.

    Raises:
        DataError: the array is not uint8.
    """
    return header(array) + array.tobytes()


def decode(content: bytes) -> npt.NDArray[np.uint8]:
    """Reads an uncompressed IDX file; the array is read-only.

    Raises:
        DataError: the header is not one of unsigned bytes, or the length does not fit it.
    """
    rank = content[3] if len(content) > 3 else 0
    offset = 4 + 4 * rank
    if content[:3] != bytes((0, 0, _UNSIGNED_BYTE)) or len(content) < offset:
        raise DataError(f"not an IDX file of unsigned bytes: it begins with {content[:4].hex()!r}")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    if len(content) - offset != math.prod(shape):
        raise DataError(
            f"an IDX file of shape {shape} must hold {math.prod(shape)} bytes of data, "
            f"got {len(content) - offset}"
        )
    return np.frombuffer(content, np.uint8, offset=offset).reshape(shape)


def sha256(array: npt.NDArray[Any]) -> str:
    """The SHA-256 of `encode(array)` in hexadecimal, without building that."""
    digest = hashlib.sha256(header(array))
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
