"""The one place that knows MLflow's client, tables and limits.

Knows studies only by their runs. Start at `mlflow_store.MlflowStore` and `connection.connected`.
"""
