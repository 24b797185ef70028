"""Tracks studies in MLflow: events are written to spools, and shipped beside the training.

The driver only appends to a spool, which needs no server. A shipper process reads the spools, draws
the figures and talks to MLflow. Only this package and `promotion` import MLflow; this package
never imports Keras. Start at `spool`, `runs`, `shipping` and `mlflow`.
"""
