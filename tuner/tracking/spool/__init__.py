"""The record of a study: events, their files on disk, and how far those were shipped.

Knows no MLflow. Start at `spool_events` and `spool`.
"""
