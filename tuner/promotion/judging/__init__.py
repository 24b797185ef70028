"""What a candidate is worth: its figures reproduced, evidence on held-out rows, the comparison.

Changes nothing in the registry. Start at `evidence`.
"""
