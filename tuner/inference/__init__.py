"""A trained network answering: pixels in, probabilities out, and how long that takes.

Knows no registry and no study. Start at `predictor.Predictor`.
"""
