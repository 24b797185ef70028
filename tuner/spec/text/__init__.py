"""Reads a study file into a validated study, and writes it back. The only code that reads YAML.

Must not check anything outside the file. Start at `reader.read_study` and `writer.to_yaml`.
"""
