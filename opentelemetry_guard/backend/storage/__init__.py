"""What the backend keeps, in SQLite."""
