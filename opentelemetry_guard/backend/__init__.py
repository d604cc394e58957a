"""A local Guard backend: the wire contract's receiving side, on loopback and on SQLite.

The way of a request: `hosts` (is it addressed to this machine?), `contract`
(who sends it, and for which project?), `body` (bytes to validated rows),
`store` (rows to disk), answer. What was stored is read back through `local`.

Needs the extra ``backend``; importing this package alone needs nothing of it.
"""
