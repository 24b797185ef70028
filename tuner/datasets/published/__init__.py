"""Published data sets: where one can be had, fetched from the first source that has it, checked.

Knows nothing of studies. Start at `published_dataset.Published`.
"""
