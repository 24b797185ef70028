"""Verification: repeats a recorded training from its record, and compares the two bit for bit.

Trains with the driver's planner and the trainers' own process, and writes nothing to the study, to
its spools or to MLflow. Start at `verify.verify`.
"""
