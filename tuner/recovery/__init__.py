"""What happens after a death, what is kept for how long, and the doctor.

Gives up dead drivers, hands their trials to living ones, ships what they left, and compares the
database, spools and MLflow. Trains nothing. Start at `takeover`, `retention` and `doctor`.
"""
