"""FastAPI and Starlette applications: their requests are followed, and their answers become events."""
