"""What Alembic runs: the steps, on the connection that `tuner.study.schema` hands over."""

from alembic import context

from tuner.study.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
