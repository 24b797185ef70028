"""All use of Optuna: samplers, pruners, distributions, points, and a study's trials.

Must know neither trainers nor MLflow. Start at `trials.Trials`, the Optuna trials of a study, and
`ranking.rank`, which finds the best point.
"""
