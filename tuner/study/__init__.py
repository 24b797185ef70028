"""A study that exists, for callers that read or change it without driving it.

Owns the summary, the overview of all studies, following a study that others drive, study files
that may be run and submissions. Starts no trainer and ships nothing. Start at `study.Study`.
"""
