"""The rules for a network: uncompiled, pixels in, class probabilities out.

They are checked when a model function has built it, when a file was loaded, and on its answers.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuner.errors import ModelError

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

_PROBABILITY_TOLERANCE = 0.01
"""The tolerance for a sum of probabilities; a softmax in bfloat16 stays within it."""
_OWN_TRAINING = (
    *("fit", "make_train_function", "train_step", "compute_loss", "compute_loss_and_updates"),
    *("test_step", "predict_step"),
)
"""Methods of a Keras model that `fit` and `predict` call, but a study does not."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def check_network(
    model: "keras.Model", name: str, image_shape: tuple[int, int, int], classes: int
) -> None:
    """Checks that a network takes these images and gives these classes. Builds it if needed.

    Args:
        model: the network.
        name: its name in messages.
        image_shape: height, width and channels.
        classes: the number of classes.

    Raises:
        ModelError: the network breaks a rule, which the message names.
    """
    import keras

    _check_inputs(getattr(model, "inputs", None), name, image_shape)
    try:
        output = model(keras.KerasTensor((None, *image_shape)))
    except (TypeError, ValueError) as refused:
        raise ModelError(
            f"{name}: must take images of shape {(None, *image_shape)}: {gist(refused)}"
        ) from refused
    if not isinstance(output, keras.KerasTensor):
        count = len(keras.tree.flatten(output))
        raise ModelError(f"{name}: must have one output, the class probabilities, got {count}")
    if tuple(output.shape) != (None, classes):
        raise ModelError(f"{name}: must output shape {(None, classes)}, got {tuple(output.shape)}")


def _check_inputs(
    inputs: "Sequence[keras.KerasTensor] | None", name: str, image_shape: tuple[int, int, int]
) -> None:
    """Compares the network's stated inputs with the images; a user's model class states none.

    A size that a network leaves open fits every image.
    """
    if not inputs:
        return
    if len(inputs) > 1:
        raise ModelError(f"{name}: must have one input, the images, got {len(inputs)}")
    shape, wanted = tuple(inputs[0].shape), (None, *image_shape)
    if len(shape) != len(wanted) or any(
        stated not in (None, size) for stated, size in zip(shape[1:], image_shape, strict=True)
    ):
        raise ModelError(f"{name}: must be a network that takes {wanted}, got {shape}")


def check_trained_by_recipe(model: "keras.Model", name: str) -> None:
    """Checks that a network does not define its own training, which would be ignored.

    Raises:
        ModelError: the model is compiled, or its class has its own training step.
    """
    import keras

    if model.compiled:
        raise ModelError(
            f"{name}: must return an uncompiled model: optimizer and loss are the study's; "
            "remove compile(...), and name optimizer and learning_rate in the search space"
        )
    for method in _OWN_TRAINING:
        inherited = getattr(keras.Model, method, None)
        if inherited is not None and _function(model, method) is not inherited:
            raise ModelError(
                f"{name}: {type(model).__name__}.{method} would not be called: a study trains "
                "with the optimizer and loss of its recipe; remove the method, and add to the "
                "loss by add_loss in a layer"
            )


def check_probabilities(name: str, answers: "NDArray[np.floating]") -> None:
    """Checks that answers, floats of shape (N, classes), are class probabilities.

    A network without a softmax at its end would train on a meaningless loss. NaN passes: it comes
    from a training that diverged.

    Raises:
        ModelError: a row does not sum to 1, or has a negative number.
    """
    totals = answers.sum(axis=1)
    total = float(totals[abs(totals - 1).argmax()])
    if abs(total - 1) > _PROBABILITY_TOLERANCE:
        raise ModelError(
            f"{name}: must output class probabilities that sum to 1, got a sum of {total:.3g}; "
            "end the network with a softmax"
        )
    if answers.min() < -_PROBABILITY_TOLERANCE:
        raise ModelError(
            f"{name}: must output class probabilities, got {answers.min():.3g}; "
            "end the network with a softmax"
        )


def image_shape(model: "keras.Model") -> tuple[int, int, int]:
    """The height, width and channels of the images that a built network takes."""
    stated = getattr(model, "input_shape", None)  # a user's model class has none
    height, width, channels = (stated or model.get_build_config()["input_shape"])[1:]
    return height, width, channels


def mode(model: "keras.Model", *, training: bool) -> dict[str, bool]:
    """The keywords by which Keras' `fit` and `predict` tell a network whether it trains.

    There are none for a model class whose `call` takes no `training`: its dropout stays off.
    """
    return {"training": training} if model._call_has_training_arg else {}


def gist(error: Exception) -> str:
    """The text of a layer's error, without Keras' colours and its list of arguments."""
    text = _COLOURS.sub("", str(error)).partition("Arguments received by")[0]
    return " ".join(text.split())


def _function(model: "keras.Model", method: str) -> Any:
    bound = getattr(model, method)
    return getattr(bound, "__func__", bound)
