"""How our tables came to be what they are: one step a file, run by Alembic, never changed."""
