"""A security event as data: the row that travels, its codec, and what is counted on the way."""
