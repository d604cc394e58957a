"""fastapi-guard: its events, its settings and its dynamic rules, without a line of code."""
