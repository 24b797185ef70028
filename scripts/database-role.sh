#!/bin/sh
# Run once by PostgreSQL's image, when its volume is new: makes the role that owns both databases,
# which is no superuser. The superuser keeps no password, so that nobody logs in as it over the
# network; within the container it is `psql --username postgres`.
# MLflow has a database of its own, since MLflow and Optuna both call a table alembic_version.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password POSTGRES_PASSWORD
CREATE ROLE tuner LOGIN PASSWORD :'password';
CREATE DATABASE tuner OWNER tuner ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE mlflow OWNER tuner ENCODING 'UTF8' TEMPLATE template0;
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
