"""Trains one plan on one device: the plan and the result, the loop, engines, scores, checkpoints.

Imports no Optuna, MLflow or database. Start at `training_loop.train`; `plan` has the data types.
"""
