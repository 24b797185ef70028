"""Existing studies, for callers that read or change them but do not run them.

Owns the summary, the overview of all studies, following a study that other processes run, study
files ready to run, and submissions. Must not start a trainer or send anything to MLflow. Start at
`study.load_study` and `study.Study`.
"""
