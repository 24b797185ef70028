"""Trainer processes: the pool that a driver holds, here or on Ray, and the trainer itself.

Knows no database and no MLflow. Start at the protocol in `pool`; a trainer is `trainer.main`.
"""
