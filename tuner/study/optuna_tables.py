"""Optuna's own tables, as far as they are read here because its storage takes long to answer."""

from sqlalchemy import column, table

STUDIES = table("studies", column("study_id"), column("study_name"))
TRIALS = table("trials", column("trial_id"), column("number"), column("study_id"), column("state"))
VALUES = table(
    "trial_values", column("trial_id"), column("objective"), column("value"), column("value_type")
)
REPORTS = table("trial_intermediate_values", column("trial_id"), column("step"))
USER_ATTRIBUTES = table(
    "trial_user_attributes", column("trial_id"), column("key"), column("value_json")
)
