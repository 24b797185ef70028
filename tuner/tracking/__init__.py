"""Brings what happens in a study to MLflow: a spool on disk, shipped beside the training.

The driver only ever appends to a spool, which needs no server and takes no time; a shipper
process reads the spools, draws the figures and talks to MLflow. MLflow is imported here and
in `promotion`, nowhere else, and Keras never.
"""
