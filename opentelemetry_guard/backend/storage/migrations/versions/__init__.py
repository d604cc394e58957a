"""One file for each step from a release's tables to the next ones."""
