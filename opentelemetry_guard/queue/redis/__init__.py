"""The delivery queue with a copy in Redis, shared by the machines of a fleet.

Two stores with one task each. The *local* store (`queue.sqlite`) is the authority for what this process has accepted:
its ledger, its overflow, its dead letters, and what is handed out next. *Redis* has a copy of every batch, which
survives this machine, and is the arbiter of who may send a batch that its producer left behind. The application waits
for Redis for a moment at most, and while either store survives nothing is lost; losing both at once is the one loss
there is.

Keys. All of a destination carry one hash tag, ``{guard:<destination>}``, so that they lie in one slot of a cluster and
a script may touch all of them:

- ``events`` and ``metrics``, or what else the kinds of rows are: streams of batches, with the consumer group
  ``senders``. An entry is pending to the consumer (one process) that holds it, from the script that adds it to the one
  that removes it. Its count of deliveries is 0 as long as nobody has begun to send it: only then may who takes it over
  merge it with others.
- ``index``, batch_id to ``<kind> <entry id> <bytes>``. Invariant: exactly the entries of the streams are in it, and
  ``bytes`` is the sum of its sizes.
- ``owners``, consumer to the end of its lease (milliseconds of Redis's clock). A released consumer has 0; one that is
  missing here holds nothing that it could not lose.
- ``done``, batch ids that were delivered or replaced and when, so that a stale copy is not sent again: those of a week,
  but the newest 100,000 at most, which are about 10 MB. The local store remembers as many.
- ``epoch``, a random word that goes when Redis is emptied, and is how that is noticed.
- ``claims``, consumer and kind to its last claim, so that a claim whose answer was lost can be asked for again.

States of a copy, and the script that moves it (`scripts`); whose it is says who may send the batch::

    missing --PUT, SWAP--> held by its producer --SWAP--> gone, and `done` if delivered or replaced
                             |             ^
                 its lease ends (RENEW     | PUT, CONFIRM by the producer, while nobody has claimed it
                 not in time, or RELEASE)  |
                             v             |
                           lost -----------+
                             |
                             +--CLAIM--> held by another machine, which adopts it in its local store (`claims`)
                                           |
                                           +--GIVE_BACK--> held by nobody: a process of its own machine has it

Whether its delivery was begun is said with PUT where a batch is sent in that instant, as under steady traffic, and by
BEGIN before a batch is handed out that has waited. One whose delivery begins while Redis is away is not known as begun.

What a process believes of its copies is its book (`book`): sure, doubtful, missing, ended. Whatever it believes is
asked again after an outage, and the housekeeping (`copies`) catches up with what could not be done in time.

What a crash leaves. Between the local `append` and PUT: a batch on this machine only. After PUT: one here and there;
whoever's lease comes first, the machine's other processes or another machine, asks Redis before it sends. Between the
answer and SWAP: it is sent again under the same `batch_id`. After SWAP and before the local acknowledgement: Redis
says `done`, and the local batch is forgotten. While Redis is away batches are delivered as if there were none; if our
lease has run out meanwhile, another machine may have sent one too, under the same `batch_id`.
"""
