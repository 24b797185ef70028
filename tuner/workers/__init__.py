"""Trainer processes: the pool that a driver holds, and the trainer itself."""
