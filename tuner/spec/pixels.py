"""The range of the pixels that a network is given, whatever the data set stores."""

from typing import Literal

Pixels = Literal["unit", "bytes"]
"""`unit`: floats in [0, 1]; `bytes`: floats in [0, 255], for networks that scale them."""

HIGHEST: dict[Pixels, float] = {"unit": 1.0, "bytes": 255.0}
"""What a white pixel is to the network."""


def scale(pixels: Pixels, stored: str) -> float:
    """What stored pixels are multiplied by: `uint8` ones lie in [0, 255], others in [0, 1]."""
    return HIGHEST[pixels] / (255 if stored == "uint8" else 1)
