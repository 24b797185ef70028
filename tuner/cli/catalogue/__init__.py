"""Commands that list what a study file may name."""
