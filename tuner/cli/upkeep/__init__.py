"""Commands that maintain the database, MLflow and the home folder."""
