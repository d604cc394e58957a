"""How this process ends, and what must not be interrupted on the way.

- `end`: what is held anywhere is handed on once, within one deadline. Everybody who notices an end calls it.
- `signals` notices the signals that ask a process to end; it puts them off while telemetry is at work.
- `children` notices the ends of child processes of `multiprocessing`, billiard and Celery.
- `interruption` puts off emissions that come in the midst of telemetry's own work.
"""
