"""Commands that keep the database, MLflow and the state folder in order."""
