"""What Alembic runs: the steps, on the connection that `storage.schema_version` hands over."""

from alembic import context

from tuner.storage.schema_version import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
