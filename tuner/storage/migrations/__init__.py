"""The Alembic migrations of tuner's tables, one per file. A released migration never changes."""
