"""Delivery queues in SQLite: a private file for the processes of one host, or the memory of one process.

Layout (`schema`). A batch is a row of ``batches`` and one of ``bodies`` with the same ``seq``; its body is written
once, its row at each move. ``ledger`` counts rows, batches and bytes by kind and state; triggers on ``batches`` keep
it, so that it changes in the transaction that moves a batch, whatever moves it. ``owners`` has the end of each
owner's lease in seconds since the machine was started, ``finished`` the ids of the newest batches that were delivered
or replaced (only where a copy in Redis may offer them again), ``facts`` what concerns the file as a whole.

States of a batch, and what moves it::

                append, adopt, replace           replay (nobody's, to be claimed)
                      |                    +--------------------------------------+
                      v                    v                                      |
     +----------->  ready  <---------------+                                      |
     |                |  lease                                                    |
     | lease, when    v                  replace                                  |
     | it is due   in flight ----+----> (its rows in new batches, ready or in flight)
     |                |          +----> dead ------------------------------------+
     |  defer         |  acknowledge       |  purge, or no room for newer ones
     deferred <-------+                    v
     |                v                 dropped.<reason>
     |             delivered               ^
     +--- no room for newer ones (as ready)+

A lease takes over what is ready, deferred or in flight of an owner whose lease has run out: it is ready then, and the
taker's. ``delivered`` and ``dropped.<reason>`` are states of the ledger alone, a batch that reaches one is gone.

Each move is **one statement**, which SQLite makes a transaction of: the file's write lock is held in C, without the
interpreter, and never while a thread waits for the interpreter to come back to it, which takes milliseconds in a
process that computes. What concerns several batches is one statement too where they belong together (an exchange, what
a lease hands out), else one for each: `append` evicts before it stores, `replay` and `purge` go letter by letter. So
neither export and sender nor the processes of a host keep each other waiting. A call takes
a connection for itself, so no call waits for the Python part of another.

What a crash leaves. Before a statement has ended: nothing of it. After `append`: a batch that its owner's successor
claims when the lease has run out. After `lease`: one in flight, claimed likewise and counted as attempted. After the
backend's answer and before `acknowledge`: the same, so it is sent again under the same `batch_id`. After `replace`:
the new batches as the old ones would be. A crash of the machine may take the last commits (``synchronous=NORMAL``),
never a part of one; leases and waits of before it end when the file is opened (`boot`).
"""
