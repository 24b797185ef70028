from typing import Any

import numpy as np
import pytest

from tuner.errors import ModelError
from tuner.models import known_models
from tuner.spec.search_space import Scalar

MNIST = (28, 28, 1)


def build(name: str, shape: tuple[int, int, int] = MNIST, **params: Scalar) -> Any:
    return known_models.build(name, params, shape, 10)


def layers(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def test_the_papers_network_layer_by_layer() -> None:
    model = build("paper-cnn")
    assert model.count_params() == 225_034
    assert layers(model) == [
        "Conv2D",
        "MaxPooling2D",
        "Conv2D",
        "MaxPooling2D",
        "Flatten",
        "Dense",
        "Dropout",
        "Dense",
    ]
    first, _, second, _, _, hidden, dropout, output = model.layers
    for convolution, filters in ((first, 32), (second, 64)):
        assert convolution.filters == filters
        assert convolution.kernel_size == (3, 3)
        assert convolution.padding == "valid"
        assert convolution.activation.__name__ == "relu"
    assert hidden.units == 128
    assert hidden.activation.__name__ == "relu"
    assert dropout.rate == 0.5
    assert output.units == 10
    assert output.activation.__name__ == "softmax"


def test_every_hyperparameter_of_the_papers_network_has_its_effect() -> None:
    model = build(
        "paper-cnn",
        dropout_rate=0.2,
        filters=8,
        kernel_size=5,
        pooling="average",
        dense_units=16,
        depth=1,
    )
    assert layers(model) == ["Conv2D", "AveragePooling2D", "Flatten", "Dense", "Dropout", "Dense"]
    convolution, _, _, hidden, dropout, _ = model.layers
    assert (convolution.filters, convolution.kernel_size) == (8, (5, 5))
    assert (hidden.units, dropout.rate) == (16, 0.2)


def test_depth_0_is_fully_connected() -> None:
    model = build("paper-cnn", depth=0)
    assert layers(model) == ["Flatten", "Dense", "Dropout", "Dense"]
    assert model.count_params() == 785 * 128 + 129 * 10


def test_each_block_has_twice_the_filters() -> None:
    model = build("paper-cnn", shape=(64, 64, 3), depth=4, filters=4)
    assert [layer.filters for layer in model.layers if hasattr(layer, "filters")] == [4, 8, 16, 32]


def test_the_dense_network() -> None:
    model = build("dense", dense_units=20, depth=3, dropout_rate=0.1)
    assert layers(model) == ["Flatten", *["Dense", "Dropout"] * 3, "Dense"]
    assert [layer.rate for layer in model.layers if hasattr(layer, "rate")] == [0.1] * 3
    assert model.count_params() == 785 * 20 + 2 * 21 * 20 + 21 * 10


def test_the_dense_network_without_hidden_layers_is_logistic_regression() -> None:
    assert build("dense", depth=0).count_params() == 785 * 10


@pytest.mark.parametrize("name", known_models.BUILTIN)
def test_outputs_are_probabilities_even_of_wild_pixels(name: str) -> None:
    pixels = np.random.default_rng(0).normal(0, 100, (7, *MNIST)).astype(np.float32)
    output = np.asarray(build(name)(pixels))
    assert output.shape == (7, 10)
    assert (output >= 0).all()
    np.testing.assert_allclose(output.sum(axis=1), 1, rtol=1e-5)


def test_an_unknown_pooling_is_refused_with_the_known() -> None:
    with pytest.raises(ModelError, match=r"paper-cnn: .*must be one of max, average, got 'min'"):
        build("paper-cnn", pooling="min")


def test_too_deep_for_the_image_is_refused() -> None:
    with pytest.raises(
        ModelError,
        match=r"paper-cnn: cannot be built with \{'depth': 3\} for images of .*: [^\x1b\n]*"
        r"[^.]; the network is too deep for such small images: kernel_size=1 or depth=2 would fit$",
    ):
        build("paper-cnn", shape=(14, 14, 1), depth=3)


def test_a_hyperparameter_that_it_does_not_take_is_refused() -> None:
    with pytest.raises(ModelError, match=r"dense: .*'filters'"):
        build("dense", filters=3)
