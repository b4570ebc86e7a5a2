"""What Alembic runs for each command: it works on the connection, and in the transaction, that `migrate` hands it."""

from alembic import context

from engine.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
