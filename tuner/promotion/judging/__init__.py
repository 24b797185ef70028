"""Judges a candidate: reproduces its figures, measures it on test rows, compares it.

Changes nothing in the registry. Start at `evidence`, the only code that opens test rows.
"""
