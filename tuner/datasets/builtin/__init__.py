"""The data sets that a study names without a module: each file has the function that loads one.

They return arrays and write nothing but the caches of downloads.
"""
