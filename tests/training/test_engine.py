"""The contract of an engine, against Keras itself and the protocols alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.conftest import PlanMaker, make_data
from tuner.errors import ModelError
from tuner.models import known_models
from tuner.models.model_file import sha256_of
from tuner.training import training_loop
from tuner.training.data import Rows, TrainingData
from tuner.training.engines.base import Engine, Session, TrainedEpoch
from tuner.training.plan import KeptModel, TrialPlan

Weights = list[NDArray[Any]]

pytestmark = pytest.mark.usefixtures("own_networks", "default_precision")

SGD = {"optimizer": "sgd", "learning_rate": 0.1}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": SGD,
    "label-smoothing": {**SGD, "label_smoothing": 0.2},
    "cosine": {**SGD, "schedule": "cosine"},
    "weight-decay": {**SGD, "weight_decay": 0.05},
    "adamw-without-decay": {"optimizer": "adamw"},
    "batch-of-all": {**SGD, "batch_size": 1000},
    "convolution": {
        **SGD,
        "model": "paper-cnn",
        "params": {"depth": 1, "filters": 4, "dense_units": 8, "dropout_rate": 0.0},
    },
    "moving-statistics": {
        "model": "own_networks:normalised",
        **SGD,
    },
    "regularizer": {"model": "own_networks:regularised", "params": {"l2": 0.1}},
    "embedded": {"model": "own_networks:embedded", **SGD},
    "subclassed": {"model": "own_networks:subclassed", **SGD},
    "adapted": {"model": "own_networks:adapted", **SGD},
    "adapted-inside": {"model": "own_networks:adapted", "params": {"nested": True}, **SGD},
    **{
        change: {"model": "own_networks:changed_variable", "params": {"change": change}, **SGD}
        for change in ("frozen", "regularized", "constrained", "added")
    },
    **{
        f"own-{where}": {"model": "own_networks:hidden_code", "params": {"where": where}, **SGD}
        for where in ("activation", "call")
    },
}


def orders(rows: int, epochs: int) -> list[NDArray[np.int32]]:
    random = np.random.default_rng(5)
    return [random.permutation(rows).astype(np.int32) for _ in range(epochs)]


def pixels(rows: Rows) -> NDArray[np.float32]:
    return rows.images.astype(np.float32) / np.float32(255)


def trained(
    engine: Engine, plan: TrialPlan, data: TrainingData
) -> tuple[Session, list[TrainedEpoch]]:
    """A session after all epochs of the plan."""
    session = engine.session(plan, data)
    return session, [session.train_epoch(order) for order in orders(len(data.train), plan.epochs)]


def trained_by_keras(plan: TrialPlan, data: TrainingData) -> tuple[Weights, list[dict[str, float]]]:
    """Final weights and each epoch's figures of Keras' own `fit`, from the same start."""
    import keras

    recipe, rows = plan.recipe, len(data.train)
    keras.utils.set_random_seed(plan.seed)
    model = known_models.build_from(plan.model.name, plan.params, data.image_shape, data.classes)
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        steps = -(-rows // recipe.batch_size) * plan.epochs
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    kinds = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
    kind = kinds.get(recipe.optimizer, keras.optimizers.AdamW)
    model.compile(
        kind(rate, weight_decay=recipe.weight_decay),
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
    )
    images, labels = pixels(data.train), keras.utils.to_categorical(data.train.labels, data.classes)
    figures = []
    for order in orders(rows, plan.epochs):
        history = model.fit(
            images[order], labels[order], batch_size=recipe.batch_size, shuffle=False, verbose=0
        )
        figures.append({name: values[0] for name, values in history.history.items()})
    return model.get_weights(), figures


@pytest.mark.slow_variants(quick=4)
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .'extra'.:UserWarning")
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_it_trains_as_keras_does(
    engine: Engine, make_plan: PlanMaker, recipe: dict[str, Any]
) -> None:
    plan, data = make_plan(**recipe), make_data()
    session, epochs = trained(engine, plan, data)
    weights, figures = trained_by_keras(plan, data)
    assert session.parameters == sum(weight.size for weight in weights)
    trained_weights: Weights = session.weights()
    for ours, theirs in zip(trained_weights, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    for epoch, expected in zip(epochs, figures, strict=True):
        assert epoch.loss == pytest.approx(expected["loss"], rel=1e-5)
        assert epoch.confusion.sum() == len(data.train)
        accuracy = np.trace(epoch.confusion) / epoch.confusion.sum()
        assert accuracy == pytest.approx(expected["accuracy"], abs=1e-6)


def test_the_confusion_counts_the_labels_in_its_rows(engine: Engine, make_plan: PlanMaker) -> None:
    data = make_data()
    _, (epoch,) = trained(engine, make_plan(epochs=1), data)
    counts = np.bincount(data.train.labels, minlength=data.classes)
    np.testing.assert_array_equal(epoch.confusion.sum(axis=1), counts)


@pytest.mark.slow_variants
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "nadam", "lion"])
def test_every_optimizer_learns(engine: Engine, make_plan: PlanMaker, optimizer: str) -> None:
    rate = 0.1 if optimizer == "sgd" else 0.003
    plan = make_plan(optimizer=optimizer, learning_rate=rate, batch_size=32, epochs=4)
    _, epochs = trained(engine, plan, make_data())
    assert epochs[-1].loss < epochs[0].loss


AUGMENTED = {"shift": 0.1, "rotate": 15.0}


@pytest.mark.parametrize("recipe", [{}, AUGMENTED], ids=["dropout", "dropout-and-augmentation"])
def test_a_seed_repeats_bit_for_bit_and_another_does_not(
    engine: Engine, make_plan: PlanMaker, recipe: dict[str, float]
) -> None:
    def final(seed: int) -> tuple[list[bytes], list[float]]:
        plan = make_plan(params={"dense_units": 16, "dropout_rate": 0.5}, seed=seed, **recipe)
        session, epochs = trained(engine, plan, data)
        return [weight.tobytes() for weight in session.weights()], [e.loss for e in epochs]

    data = make_data()
    once = final(1)
    assert final(1) == once
    different = final(2)
    assert not set(once[1]) & set(different[1])
    assert once[0] != different[0]


STATEFUL: dict[str, dict[str, Any]] = {
    "dropout": {"params": {"dense_units": 16, "dropout_rate": 0.5}},
    "augmentation": AUGMENTED,
    "moving-statistics": {"model": "own_networks:normalised"},
    "cosine": {"schedule": "cosine", "optimizer": "adamw"},
    "unseeded": {"model": "own_networks:noisy"},
}


@pytest.mark.slow_variants(quick=2)
@pytest.mark.parametrize("change", STATEFUL.values(), ids=STATEFUL)
def test_a_session_goes_on_from_a_state_as_if_never_interrupted(
    engine: Engine, make_plan: PlanMaker, change: dict[str, Any]
) -> None:
    plan, data = make_plan(**change, epochs=3), make_data()
    through, epochs = trained(engine, plan, data)
    expected = [weight.tobytes() for weight in through.weights()]
    begun = engine.session(plan, data)
    *first, last = orders(len(data.train), 3)
    for order in first:
        begun.train_epoch(order)
    state = begun.state()
    begun.train_epoch(last)
    resumed = engine.session(plan, data)
    resumed.restore(state, len(first))
    assert resumed.train_epoch(last).loss == epochs[-1].loss
    assert [weight.tobytes() for weight in resumed.weights()] == expected


def test_a_state_of_another_network_is_refused(engine: Engine, make_plan: PlanMaker) -> None:
    data = make_data()
    states = [
        engine.session(make_plan(params={"dense_units": units}), data).state() for units in (8, 9)
    ]
    session = engine.session(make_plan(params={"dense_units": 8}), data)
    session.restore(states[0], 0)
    with pytest.raises(ValueError, match="shape"):
        session.restore(states[1], 0)


@pytest.mark.slow_variants
@pytest.mark.parametrize("validation", [1, 500, 501])
def test_every_validation_row_gets_its_probabilities(
    engine: Engine, make_plan: PlanMaker, validation: int, tmp_path: Path
) -> None:
    import keras

    plan, data = make_plan(params={"dropout_rate": 0.9}, epochs=1), make_data(150, validation)
    session, _ = trained(engine, plan, data)
    probabilities = session.probabilities()
    assert probabilities.shape == (validation, data.classes)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    session.save(session.weights(), tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict(pixels(data.validation), verbose=0)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    assert [path.name for path in tmp_path.glob("*.keras")] == ["model.keras"]


@pytest.mark.parametrize("network", ["dense", "own_networks:dropping"])
def test_the_saved_model_has_the_weights_that_were_asked_for(
    engine: Engine, make_plan: PlanMaker, tmp_path: Path, network: str
) -> None:
    import keras

    data = make_data()
    session = engine.session(make_plan(network), data)
    session.train_epoch(orders(len(data.train), 1)[0])
    early, expected = session.weights(), session.probabilities()
    session.train_epoch(orders(len(data.train), 1)[0])
    assert not np.allclose(session.probabilities(), expected, atol=1e-4)
    session.save(early, tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    answered = model.predict(pixels(data.validation), verbose=0)
    np.testing.assert_allclose(answered, expected, rtol=1e-4, atol=1e-6)


def answers_of_a_saved_file(
    engine: Engine, plan: TrialPlan, data: TrainingData, folder: Path
) -> None:
    """Trains, saves and holds the file against the network."""
    session, _ = trained(engine, plan, data)
    path, answers = folder / "model.keras", session.probabilities()
    session.save(session.weights(), path)
    kept = KeptModel(path=path, sha256=sha256_of(path), parameters=session.parameters)
    session.check_file(kept, data.watched, answers)


@pytest.mark.slow_variants(quick=2)
@pytest.mark.parametrize("network", ["dense", "own_networks:adapted", "own_networks:subclassed"])
@pytest.mark.parametrize("validation", [40, 0])
def test_a_saved_file_answers_as_the_network_did(
    engine: Engine, make_plan: PlanMaker, tmp_path: Path, network: str, validation: int
) -> None:
    plan = make_plan(network, epochs=1, validation=validation)
    answers_of_a_saved_file(engine, plan, make_data(150, validation), tmp_path)


UNSAFE: dict[str, tuple[str, dict[str, str], str]] = {
    "call": ("hidden_code", {"where": "call"}, "what Keras saves of it is another network"),
    "lambda": ("unsafe", {"kind": "lambda"}, "Keras does not load it: .*Lambda"),
    "unregistered": ("unsafe", {"kind": "unregistered"}, "Keras does not load it: .*Scaling"),
    "inside": ("unsafe", {"kind": "inside"}, "Keras does not load it: .*Inside"),
}


@pytest.mark.parametrize(("network", "params", "reason"), UNSAFE.values(), ids=UNSAFE)
def test_a_saved_file_that_cannot_be_promoted_is_refused(
    engine: Engine,
    make_plan: PlanMaker,
    tmp_path: Path,
    network: str,
    params: dict[str, str],
    reason: str,
) -> None:
    plan = make_plan(f"own_networks:{network}", params, epochs=1)
    with pytest.raises(ModelError, match=reason):
        answers_of_a_saved_file(engine, plan, make_data(), tmp_path)


@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh"])
@pytest.mark.parametrize("validation", [40, 0])
def test_a_network_that_gives_no_probabilities_is_refused_before_its_first_epoch(
    engine: Engine, make_plan: PlanMaker, activation: str, validation: int
) -> None:
    plan = make_plan("own_networks:headed", {"activation": activation}, validation=validation)
    with pytest.raises(ModelError, match=r"must output class probabilities .*with a softmax"):
        engine.session(plan, make_data(150, validation))


def test_bfloat16_learns_as_float32_does(engine: Engine, make_plan: PlanMaker) -> None:
    data, share = make_data(1000, 400), {}
    for precision in ("float32", "bfloat16"):
        plan = make_plan(precision=precision, learning_rate=0.01, batch_size=32, epochs=6)
        session, epochs = trained(engine, plan, data)
        probabilities = session.probabilities()
        assert probabilities.dtype == np.float32
        assert {weight.dtype for weight in session.weights()} == {np.dtype(np.float32)}
        assert np.isfinite([epoch.loss for epoch in epochs]).all()
        share[precision] = (probabilities.argmax(axis=1) == data.validation.labels).mean()
    assert share["float32"] > 0.9
    assert share["bfloat16"] == pytest.approx(share["float32"], abs=0.04)


def test_whole_numbers_and_shares_of_one_are_the_same_pixels(
    engine: Engine, make_plan: PlanMaker
) -> None:
    whole = make_data()
    shares = replace(
        whole,
        train=replace(whole.train, images=pixels(whole.train)),
        validation=replace(whole.validation, images=pixels(whole.validation)),
    )
    first, (*_, last) = trained(engine, make_plan(), whole)
    second, (*_, same) = trained(engine, make_plan(), shares)
    assert last.loss == pytest.approx(same.loss, rel=1e-5)
    np.testing.assert_allclose(first.probabilities(), second.probabilities(), rtol=1e-4, atol=1e-6)


def test_statistics_move_in_training_alone(engine: Engine, make_plan: PlanMaker) -> None:
    data = make_data()
    session = engine.session(make_plan("own_networks:normalised"), data)
    start = session.weights()
    session.probabilities()
    assert all(map(np.array_equal, session.weights(), start))
    session.train_epoch(orders(len(data.train), 1)[0])
    assert not any(map(np.array_equal, session.weights(), start))


def _seen(engine: Engine, plan: TrialPlan, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """How a step saw the image, over and over: the network remembers its first row."""
    rows = Rows(image[None], np.zeros(1, np.int64))
    session = engine.session(
        plan, TrainingData(train=rows, validation=rows, held_out=np.arange(len(rows)), classes=10)
    )
    only = np.zeros(1, np.int32)
    seen = []
    for _ in range(12):
        session.train_epoch(only)
        seen.append(np.asarray(session.weights()[0][:, :, 0], np.float32))
    return seen


def _dot(row: int, column: int) -> NDArray[np.uint8]:
    image = np.zeros((21, 21, 1), np.uint8)
    image[row, column] = 255
    return image


def _centre(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Where the image's mass lies, row and column from its middle."""
    places = np.indices(image.shape) - 10
    centre: NDArray[np.float64] = (places * image).sum(axis=(1, 2)) / image.sum()
    return centre


def test_without_augmentation_a_step_sees_the_image_itself(
    engine: Engine, make_plan: PlanMaker
) -> None:
    plan, image = make_plan("own_networks:remembering"), _dot(10, 16)
    for seen in _seen(engine, plan, image):
        np.testing.assert_allclose(seen, image[:, :, 0] / 255, rtol=1e-6)


def test_pixels_come_in_the_range_that_the_plan_names(engine: Engine, make_plan: PlanMaker) -> None:
    image = _dot(10, 16)
    for seen in _seen(engine, make_plan("own_networks:remembering", pixels="bytes"), image):
        np.testing.assert_array_equal(seen, image[:, :, 0])


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_network_that_scales_bytes_itself_trains_as_one_that_does_not(
    engine: Engine, make_plan: PlanMaker, tmp_path: Path, dtype: str
) -> None:
    import keras

    data = make_data()
    _, expected = trained(engine, make_plan("own_networks:unscaled"), data)
    plan = make_plan("own_networks:rescaled", {"dtype": dtype}, pixels="bytes")
    session, epochs = trained(engine, plan, data)
    assert [each.loss for each in epochs] == pytest.approx([e.loss for e in expected], rel=1e-5)
    assert not any("as they are" in remark for remark in session.remarks)
    session.save(session.weights(), tmp_path / "model.keras")
    saved = keras.models.load_model(tmp_path / "model.keras")
    answers = saved.predict(data.validation.images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(session.probabilities(), answers, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_network_that_scales_bytes_is_refused_pixels_in_0_to_1(
    engine: Engine, make_plan: PlanMaker, dtype: str
) -> None:
    with pytest.raises(ModelError, match=r"own_networks:rescaled: .* write pixels: bytes"):
        engine.session(make_plan("own_networks:rescaled", {"dtype": dtype}), make_data())


def test_bytes_that_nothing_scales_are_remarked(engine: Engine, make_plan: PlanMaker) -> None:
    session = engine.session(make_plan(pixels="bytes"), make_data())
    assert any("as they are; begin the network with" in remark for remark in session.remarks)


def test_shifts_stay_within_their_share_of_the_image(engine: Engine, make_plan: PlanMaker) -> None:
    plan = make_plan("own_networks:remembering", shift=0.2)
    moved = np.array([_centre(seen) for seen in _seen(engine, plan, _dot(10, 10))])
    assert (abs(moved) <= 0.2 * 21 + 0.01).all()
    assert (abs(moved).max(axis=0) > 1).all()
    assert len(np.unique(moved.round(3), axis=0)) == len(moved)


def test_turns_stay_within_their_degrees(engine: Engine, make_plan: PlanMaker) -> None:
    plan = make_plan("own_networks:remembering", rotate=30.0)
    centres = np.array([_centre(seen) for seen in _seen(engine, plan, _dot(10, 17))])
    degrees = np.degrees(np.arctan2(centres[:, 0], centres[:, 1]))
    assert (abs(degrees) <= 30 + 3).all()
    assert degrees.max() > 3
    assert degrees.min() < -3


def test_an_epoch_of_any_length_runs_the_program_that_is_there(
    engine: Engine, make_plan: PlanMaker
) -> None:
    from own_networks import TRACED  # type: ignore[import-not-found]  # on the path in a test

    data = make_data()
    session = engine.session(make_plan("own_networks:traced"), data)
    session.train_epoch(orders(64, 1)[0])
    traced = len(TRACED)
    for rows in (150, 1, 65):
        session.train_epoch(orders(rows, 1)[0])
    assert len(TRACED) == traced


def test_data_of_another_trial_does_not_linger(engine: Engine, make_plan: PlanMaker) -> None:
    for rows, validation in ((150, 40), (70, 20)):
        session, (epoch,) = trained(engine, make_plan(epochs=1), make_data(rows, validation))
        assert epoch.confusion.sum() == rows
        assert len(session.probabilities()) == validation


class Ignored:
    """Hears of a trial and says nothing."""

    def epoch_ended(self, _report: Any) -> None:
        pass

    def stops_after(self, _report: Any) -> bool:
        return False

    def pruned(self) -> bool:
        return False


def test_a_trial_on_it_ends_with_a_result(engine: Engine, make_plan: PlanMaker) -> None:
    data = make_data()
    result = training_loop.train(make_plan(), lambda _plan: data, engine, Ignored())
    assert result.error is None
    assert result.model is not None
    assert result.model.parameters == 65 * 16 + 17 * 10
    assert result.evaluation is not None
    best = result.best
    assert best is not None
    assert result.evaluation.accuracy == pytest.approx(best.metrics["val_accuracy"])


def test_a_network_that_keras_cannot_save_is_trained_and_says_so(
    engine: Engine, make_plan: PlanMaker
) -> None:
    data = make_data()
    plan = make_plan("own_networks:unsavable", epochs=1)
    result = training_loop.train(plan, lambda _plan: data, engine, Ignored())
    assert result.error is None
    assert result.model is None
    (remark,) = [each for each in result.remarks if "could not be kept" in each]
    assert "must override `get_config()`" in remark.replace("method ", "")


def test_it_names_its_backend_and_versions(engine: Engine) -> None:
    import keras

    assert engine.backend == keras.backend.backend()
    assert engine.versions()["keras"] == keras.__version__
