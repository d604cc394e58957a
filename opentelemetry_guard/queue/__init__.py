"""Durable queues behind one protocol: memory, SQLite, Redis, or one of your own."""
