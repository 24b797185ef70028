"""Everything that is said to Optuna: samplers, pruners, distributions, points, a study's trials.

Knows neither trainers nor MLflow. Start at `trials.Trials`, which has one Optuna row for each slot,
and `ranking`, which says which point is best.
"""
