"""Alembic's entry point: runs the migrations on the connection of `storage.schema_version`."""

from alembic import context

from tuner.storage.schema_version import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
