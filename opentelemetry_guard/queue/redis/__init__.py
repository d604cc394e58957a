"""The queue that a fleet shares through Redis; each machine keeps its own batches in SQLite as well."""
