"""From the text of a study file to a checked study, and back. The only reader of YAML.

Start at `reader.read_study` and `writer.to_yaml`.
"""
