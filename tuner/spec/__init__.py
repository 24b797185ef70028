"""The study file: its schema, its search space, its reader. The only place that reads YAML."""
