"""Commands about what a study file may contain: data sets, models, its JSON Schema."""
