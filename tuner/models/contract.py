"""What a network must be: uncompiled, pixels in, class probabilities out.

Checked when a model function has built it, when a file was loaded, and on what it answers.
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
"""Wide enough for a softmax computed in bfloat16."""
_OWN_TRAINING = (
    *("fit", "make_train_function", "train_step", "compute_loss", "compute_loss_and_updates"),
    *("test_step", "predict_step"),
)
"""Methods of a Keras model that `fit` and `predict` call, and a study does not."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def check_network(
    model: "keras.Model", name: str, image_shape: tuple[int, int, int], classes: int
) -> None:
    """Refuses a network that does not take these images, or tell these classes apart.

    Builds the network, if it was not.

    Args:
        model: the network.
        name: what messages call it.
        image_shape: height, width and channels.
        classes: how many classes there are.

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
    """Holds what a network states of its inputs against the images; a class of its own states none.

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
    """Refuses a network that says itself how it is trained, which would go unheard.

    Raises:
        ModelError: the model is compiled, or its class has a training step of its own.
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
    """Refuses answers, shape (N, classes), that are not class probabilities.

    A network that ends without a softmax would train on a loss that means nothing. Answers
    that are not numbers pass: they are a training that diverged.

    Raises:
        ModelError: a row does not sum to 1, or holds a negative number.
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
    """Height, width and channels of the images that a built network takes."""
    stated = getattr(model, "input_shape", None)  # a model class of its own has none
    height, width, channels = (stated or model.get_build_config()["input_shape"])[1:]
    return height, width, channels


def mode(model: "keras.Model", *, training: bool) -> dict[str, bool]:
    """How Keras' `fit` and `predict` tell a network whether it trains, as keywords for a call.

    A model class whose `call` takes no `training` is not told, and its dropout stays off.
    """
    return {"training": training} if model._call_has_training_arg else {}


def gist(error: Exception) -> str:
    """What a layer said, without Keras' colours and its list of the arguments."""
    said = _COLOURS.sub("", str(error)).partition("Arguments received by")[0]
    return " ".join(said.split())


def _function(model: "keras.Model", method: str) -> Any:
    bound = getattr(model, method)
    return getattr(bound, "__func__", bound)
