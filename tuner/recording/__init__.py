"""What a driver records: the journal of a study, its provenance, and the shipper beside it.

Writes spools; only the shipper's process speaks to MLflow. Start at `journal.Journal`.
"""
