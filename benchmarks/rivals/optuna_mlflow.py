"""The stock sweep: Optuna's TPE, `model.fit`, and MLflow, by autolog or by hand.

python -m benchmarks.rivals.optuna_mlflow --tracking autolog|metrics --data ... --folder ...
"""

import keras
import mlflow
import optuna

from benchmarks.rivals.common import (
    BATCH,
    DROPOUT_RATE,
    FIRST,
    LEARNING_RATE,
    answer,
    arguments,
    build,
    load,
)


def log_epoch(epoch: int, logs: dict[str, float]) -> None:
    """Logs an epoch's figures to the active run, in one request."""
    mlflow.log_metrics(logs, step=epoch)


def main() -> None:
    """Runs the sweep in one process."""
    parser = arguments(__doc__)
    parser.add_argument("--tracking", choices=["autolog", "metrics"], required=True)
    asked = parser.parse_args()
    arrays = load(asked.data)
    mlflow.set_tracking_uri(f"sqlite:///{asked.folder}/mlflow.db")
    experiment = mlflow.create_experiment("sweep", f"file://{asked.folder}/artifacts")
    if asked.tracking == "autolog":
        mlflow.tensorflow.autolog()
        callbacks = []
    else:
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=log_epoch)]

    def objective(trial: optuna.Trial) -> float:
        learning_rate = trial.suggest_float("learning_rate", *LEARNING_RATE, log=True)
        dropout_rate = trial.suggest_float("dropout_rate", *DROPOUT_RATE)
        keras.utils.set_random_seed(asked.seed + trial.number)
        with mlflow.start_run(experiment_id=experiment):
            mlflow.log_params(trial.params)
            history = build(learning_rate, dropout_rate, asked.policy).fit(
                arrays.x_train,
                arrays.y_train,
                batch_size=BATCH,
                epochs=asked.epochs,
                validation_data=(arrays.x_val, arrays.y_val),
                callbacks=callbacks,
                verbose=0,
            )
        return float(max(history.history["val_accuracy"]))

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=asked.seed),
        storage=f"sqlite:///{asked.folder}/optuna.db",
    )
    study.enqueue_trial(FIRST)
    study.optimize(objective, n_trials=asked.trials)
    answer(study.best_value, len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])))


if __name__ == "__main__":
    main()
