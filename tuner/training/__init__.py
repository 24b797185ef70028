"""Trains one plan on one device. Knows nothing of Optuna, MLflow or databases."""
