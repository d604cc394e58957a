"""What Alembic runs: the revisions that are missing, on the connection and in the transaction that it is given."""

from alembic import context

from opentelemetry_guard.backend.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
