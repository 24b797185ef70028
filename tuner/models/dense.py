"""A fully connected network, for comparison with a convolutional one."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def build(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    dropout_rate: float = 0.5,
    dense_units: int = 512,
    depth: int = 2,
) -> "keras.Model":
    """Builds `depth` ReLU layers of `dense_units`, each followed by dropout, and a softmax.

    Args:
        input_shape: height, width and channels of an image, its pixels in [0, 1].
        classes: the number of classes.
        dropout_rate: share of each hidden layer's outputs dropped in training.
        dense_units: width of each hidden layer.
        depth: number of hidden layers; 0 is multinomial logistic regression.
    """
    import keras
    from keras import layers

    model = keras.Sequential([layers.Input(input_shape), layers.Flatten()], name="dense")
    for _ in range(depth):
        model.add(layers.Dense(dense_units, activation="relu"))
        model.add(layers.Dropout(dropout_rate))
    model.add(layers.Dense(classes, activation="softmax", dtype="float32"))
    return model
