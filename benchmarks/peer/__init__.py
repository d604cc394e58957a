"""This package beside guard-agent, in one run on one machine: ``make bench``.

Whoever is measured runs in a process of its own (`contestant`), and all of them send to one backend that accepts
everything (`backend`). They take turns, round by round, and a ratio is the median of the rounds' ratios: what else the
machine does meets all of them alike.

- `pipelines`: how each of them is set up, gets an event, and is waited for
- `events`, `requests`, `stored`, `starting`: what is measured
- `running`: processes and turns; `report`: the document
"""
