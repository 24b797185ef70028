"""Published data sets: their sources, download and verification.

Knows nothing of studies. Start at `published_dataset.Published`.
"""
