"""The one place that knows MLflow's client, tables and limits.

Knows no study but by its runs. Start at `mlflow_store.MlflowStore` and `connection.connected`.
"""
