"""What events mean for MLflow runs, as data: parameters, metrics, tags, tables and figures.

Sends nothing. Start at `attempt_run.AttemptRun` and `study_run.StudyRun`.
"""
