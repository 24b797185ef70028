"""Recovery from dead drivers, retention of models and checkpoints, shipping later, and the doctor.

Takes over dead drivers, ships what they left, and compares the database, spools and MLflow. Trains
nothing. Start at `takeover`, `retention`, `sync`, `unshipped` and `doctor`.
"""
