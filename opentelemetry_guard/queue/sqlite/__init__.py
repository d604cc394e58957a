"""The queue in an SQLite file, shared by the processes of a host."""
