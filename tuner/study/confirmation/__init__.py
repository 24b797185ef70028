"""Studies that follow from a study: the race that confirms its points, and the refit of one.

Owns how both are made of a study, and what a race has found. Runs nothing. Start at
`race_study.confirmation_of`, `report.find_report` and `refit.refit_study`.
"""
