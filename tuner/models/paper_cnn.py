"""The paper's convolutional network, as a function of its hyperparameters.

Source: M. A. Al-Bayati, "Deep Learning for Handwritten Digit Recognition System: A
Convolution Neural Network Approach", architecture section. With the defaults, on 28x28x1
images and ten classes, it has the paper's 225,034 parameters.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def build(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    dropout_rate: float = 0.5,
    filters: int = 32,
    kernel_size: int = 3,
    pooling: str = "max",
    dense_units: int = 128,
    depth: int = 2,
) -> "keras.Model":
    """Builds the network.

    Args:
        input_shape: height, width and channels of an image, its pixels in [0, 1].
        classes: the number of classes.
        dropout_rate: share of the dense layer's outputs dropped in training.
        filters: filters of the first convolution; each further block has twice as many.
        kernel_size: height and width of each convolution, valid padding.
        pooling: `max` or `average`, 2x2 after each convolution.
        dense_units: width of the hidden dense layer.
        depth: number of convolution and pooling blocks; 0 is a fully connected network.

    Raises:
        ValueError: `pooling` is neither `max` nor `average`, or an image is too small for
            `depth` blocks.
    """
    import keras
    from keras import layers

    poolings = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}
    if pooling not in poolings:
        raise ValueError(f"pooling must be one of {', '.join(poolings)}, got {pooling!r}")
    model = keras.Sequential([layers.Input(input_shape)], name="paper_cnn")
    for block in range(depth):
        model.add(layers.Conv2D(filters * 2**block, kernel_size, activation="relu"))
        model.add(poolings[pooling](2))
    model.add(layers.Flatten())
    model.add(layers.Dense(dense_units, activation="relu"))
    model.add(layers.Dropout(dropout_rate))
    model.add(layers.Dense(classes, activation="softmax", dtype="float32"))
    return model
