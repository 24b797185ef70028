"""Ships events to MLflow: the shipper process, and the steps from a spool to a run.

Speaks to MLflow through `tracking.mlflow` alone. Start at `shipper.Shipper`, the driver's end.
"""
