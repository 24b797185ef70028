"""Inference: predicts class probabilities with a trained network, and measures the latency.

Knows no registry and no study. Start at `predictor.Predictor`.
"""
