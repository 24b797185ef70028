"""Data sets: arrays in, a folder of verified arrays out. The test rows lie apart."""
