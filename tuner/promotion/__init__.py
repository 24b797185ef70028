"""Promotion: nominates a trial, judges it on test rows, and makes it the champion or says why not.

Trains nothing. Start at `promote.promote` and `evaluation.evaluate_trials`.
"""
