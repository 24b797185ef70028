"""Tunes, tracks and promotes image classifiers."""
