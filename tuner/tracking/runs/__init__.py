"""What events mean for MLflow runs, as data: parameters, metrics, tags, tables and figures.

Pure but for the drawing; sends nothing. Start at `attempt_run.AttemptRun` and `study_run.StudyRun`.
"""
