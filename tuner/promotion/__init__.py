"""Promotion: nominates a trial, judges it on held-out rows, makes it the champion or says why not.

Trains nothing. Start at `promote.promote` and `evaluation.evaluate_trials`.
"""
