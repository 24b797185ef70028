"""Drives studies: asks Optuna, hands plans to trainers, tells, and loses nothing."""
