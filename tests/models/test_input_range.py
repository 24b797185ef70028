"""Networks that scale pixels themselves are told from those that leave it to others.

Every process of pytest collects this file, and one runs it: what loads Keras is imported there.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tuner.errors import ModelError

CheckRange = Callable[..., tuple[str, ...]]
MADE_FOR_BYTES = (
    "rescaling",
    "rescaling-to-both-signs",
    "rescaling-then-batch-normalization",
    "division",
    "lambda",
    "nested",
    "subclassed",
    "adapted-to-bytes",
    "recurrent",
    "efficientnet",
    "mobilenet-v3",
)
INDIFFERENT = ("batch-normalization", "saturated", "unit-normalization")
MADE_FOR_UNIT = ("plain", "rescaling-to-both-signs", "adapted-to-shares", "recurrent")


@pytest.fixture(scope="module")
def networks() -> ModuleType:
    from tests.models import scaling_networks

    return scaling_networks


@pytest.fixture(scope="module")
def check_range() -> CheckRange:
    from tuner.models.input_range import check_range

    return check_range


def test_every_network_is_checked(networks: ModuleType) -> None:
    assert tuple(networks.MADE_FOR_BYTES) == MADE_FOR_BYTES
    assert tuple(networks.INDIFFERENT) == INDIFFERENT
    assert tuple(networks.MADE_FOR_UNIT) == MADE_FOR_UNIT


@pytest.mark.parametrize("name", MADE_FOR_BYTES)
def test_a_network_that_scales_bytes_is_refused_pixels_in_0_to_1(
    name: str, networks: ModuleType, check_range: CheckRange
) -> None:
    model = networks.MADE_FOR_BYTES[name]()
    with pytest.raises(ModelError, match=r"^mine: scales pixels .* write pixels: bytes"):
        check_range("mine", model, networks.SHAPE, "unit")
    assert check_range("mine", model, networks.SHAPE, "bytes") == ()


def test_the_layer_that_scales_is_named(networks: ModuleType, check_range: CheckRange) -> None:
    model = networks.network(networks.layers.Rescaling(1 / 255, name="to_one"))
    with pytest.raises(
        ModelError, match=r"or leave out its layer 'to_one'; .* needs another --name$"
    ):
        check_range("mine", model, networks.SHAPE, "unit")


@pytest.mark.parametrize("name", INDIFFERENT)
def test_a_network_that_normalises_or_saturates_takes_both(
    name: str, networks: ModuleType, check_range: CheckRange
) -> None:
    model = networks.INDIFFERENT[name]()
    assert check_range("mine", model, networks.SHAPE, "unit") == ()
    assert check_range("mine", model, networks.SHAPE, "bytes") == ()


@pytest.mark.parametrize("name", MADE_FOR_UNIT)
def test_bytes_that_nothing_scales_are_remarked(
    name: str, networks: ModuleType, check_range: CheckRange
) -> None:
    model = networks.MADE_FOR_UNIT[name]()
    assert check_range("mine", model, networks.SHAPE, "unit") == ()
    (remark,) = check_range("mine", model, networks.SHAPE, "bytes")
    assert "as they are; begin the network with Rescaling(1/255)" in remark


def test_the_network_is_left_as_it_was(networks: ModuleType, check_range: CheckRange) -> None:
    model = networks.MADE_FOR_BYTES["rescaling"]()
    picture = np.full((1, *networks.SHAPE), 200, np.float32)
    before = model.predict(picture, verbose=0)
    check_range("mine", model, networks.SHAPE, "bytes")
    np.testing.assert_array_equal(model.predict(picture, verbose=0), before)


def test_a_network_that_fails_is_left_to_training(
    networks: ModuleType, check_range: CheckRange
) -> None:
    def fail(_pixels: Any) -> Any:
        raise RuntimeError("only in training")

    model = networks.network()
    model.layers[0].call = fail
    assert check_range("mine", model, networks.SHAPE, "unit") == ()
