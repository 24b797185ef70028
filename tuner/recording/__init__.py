"""What a driver writes down: the journal of a study, its provenance, and the shipper beside it.

Writes spools and never speaks to MLflow itself. Start at `journal.Journal`.
"""
