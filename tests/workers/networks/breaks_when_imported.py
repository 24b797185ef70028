"""A module with a mistake in it."""

SHARE = 1 / 0
