"""Runs studies: loop, session, orders, plans, trainers, and the worker.

Knows neither Keras nor MLflow. Start at `run_study.run_study`, `session.DriverSession` and
`driver_loop.Driver`, which gives trials to trainers and retries them.
"""
