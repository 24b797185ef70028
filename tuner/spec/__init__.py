"""The study file: its schema and rules, and in `text/` the only code that reads YAML.

Must not know whether a data set, model function or sampler exists on this machine, and must not
import Optuna. Start at `study_spec.StudySpec` and `text.reader.read_study`.
"""
