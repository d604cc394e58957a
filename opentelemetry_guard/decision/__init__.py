"""What dynamic rules say of a request: pure functions, without I/O."""
