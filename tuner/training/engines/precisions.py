"""Precisions: Keras' name for each, and which a device has instructions for.

Elsewhere bfloat16 is emulated, and slow.
"""

from pathlib import Path

from tuner.training.plan import Precision

POLICIES: dict[Precision, str] = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""Keras' policies: mixed keeps weights, softmax and loss in float32."""

_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux names them: Intel's and AMD's vector units, Intel's tiles, Arm's."""
_AMPERE = (8, 0)
"""The first compute capability of NVIDIA's with bfloat16 in its tensor cores."""


def processor_precisions() -> tuple[Precision, ...]:
    """Those of the processor that this runs on."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux: nothing is known
        flags = set()
    return ("float32", "bfloat16") if flags & _FLAGS else ("float32",)


def gpu_precisions(compute_capability: tuple[int, int]) -> tuple[Precision, ...]:
    """Those of a GPU of NVIDIA's."""
    return ("float32", "bfloat16") if compute_capability >= _AMPERE else ("float32",)
