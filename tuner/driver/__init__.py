"""Running a study: the loop, the session around it, orders, plans, trainers, and the worker.

Knows neither Keras nor MLflow. Start at `session.run_study` and `loop.Driver`.
"""
