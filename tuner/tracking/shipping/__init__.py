"""How events travel: the shipper process, its lock, and the steps from a spool to a run.

Speaks to MLflow through `tracking.mlflow` alone. Start at `shipper.Shipper`, the driver's end.
"""
