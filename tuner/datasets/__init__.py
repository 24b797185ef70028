"""Data sets: the shipped ones, the rules for all, and the prepared folders of verified arrays.

Training and test rows are in separate folders. Knows no Keras and no database. Start at
`prepare.prepare_apart`, `store.read_info` and `store.read_arrays`.
"""
