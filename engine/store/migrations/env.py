"""What Alembic runs for each command: it works on the connection, and in the transaction, that `migrate` hands it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
