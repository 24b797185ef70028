"""Keras Tuner's Bayesian optimisation, with its own records and no other tracking.

It cannot be told which point to try first; its first ones are drawn at random.

python -m benchmarks.rivals.keras_tuner_search --data ... --folder ...
"""

import keras
import keras_tuner

from benchmarks.rivals.common import (
    BATCH,
    DROPOUT_RATE,
    LEARNING_RATE,
    answer,
    arguments,
    build,
    load,
)


def main() -> None:
    """Runs the sweep in one process."""
    asked = arguments(__doc__).parse_args()
    arrays = load(asked.data)
    keras.utils.set_random_seed(asked.seed)

    def hypermodel(point: keras_tuner.HyperParameters) -> keras.Model:
        return build(
            point.Float("learning_rate", *LEARNING_RATE, sampling="log"),
            point.Float("dropout_rate", *DROPOUT_RATE),
            asked.policy,
        )

    tuner = keras_tuner.BayesianOptimization(
        hypermodel,
        objective="val_accuracy",
        max_trials=asked.trials,
        seed=asked.seed,
        directory=asked.folder,
        project_name="sweep",
    )
    tuner.search(
        arrays.x_train,
        arrays.y_train,
        batch_size=BATCH,
        epochs=asked.epochs,
        validation_data=(arrays.x_val, arrays.y_val),
        verbose=0,
    )
    (best,) = tuner.oracle.get_best_trials(1)
    answer(best.score, sum(one.status == "COMPLETED" for one in tuner.oracle.trials.values()))


if __name__ == "__main__":
    main()
