"""Judges candidates on held-out data and moves the registry alias, or says why not."""
