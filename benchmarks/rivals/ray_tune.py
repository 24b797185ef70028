"""Ray Tune with Optuna's search, a trial a core, tracked by its MLflow callback.

python -m benchmarks.rivals.ray_tune --data ... --folder ...
"""

import os

import optuna
import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from benchmarks.rivals.common import (
    BATCH,
    DROPOUT_RATE,
    FIRST,
    LEARNING_RATE,
    Arrays,
    answer,
    arguments,
    build,
    load,
)


def train(point: dict[str, float], arrays: Arrays, epochs: int, seed: int, policy: str) -> None:
    """One trial, in a process of its own that has one core."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(seed)
    build(point["learning_rate"], point["dropout_rate"], policy).fit(
        arrays.x_train,
        arrays.y_train,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=(arrays.x_val, arrays.y_val),
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=lambda _epoch, logs: tune.report(logs))
        ],
        verbose=0,
    )


def main() -> None:
    """Runs the sweep with a trial on every core."""
    asked = arguments(__doc__).parse_args()
    cores = len(os.sched_getaffinity(0))
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    trainable = tune.with_parameters(
        train, arrays=load(asked.data), epochs=asked.epochs, seed=asked.seed, policy=asked.policy
    )
    tracking = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{asked.folder}/mlflow.db", experiment_name="sweep"
    )
    found = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={
            "learning_rate": tune.loguniform(*LEARNING_RATE),
            "dropout_rate": tune.uniform(*DROPOUT_RATE),
        },
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            search_alg=OptunaSearch(
                points_to_evaluate=[FIRST], sampler=optuna.samplers.TPESampler(seed=asked.seed)
            ),
            num_samples=asked.trials,
            max_concurrent_trials=cores,
            reuse_actors=True,  # else every trial would load TensorFlow anew
        ),
        run_config=tune.RunConfig(storage_path=str(asked.folder), callbacks=[tracking], verbose=0),
    ).fit()
    curves = [result.metrics_dataframe["val_accuracy"] for result in found if not result.error]
    answer(
        max(float(curve.max()) for curve in curves),
        sum(len(curve) == asked.epochs for curve in curves),
    )


if __name__ == "__main__":
    main()
