"""The data sets that a study names without a module: one file with one function for each.

They return arrays and write nothing but the caches of downloads.
"""
