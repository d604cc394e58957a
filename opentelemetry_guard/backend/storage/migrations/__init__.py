"""How a database gets the tables of this release: a chain of Alembic's revisions, one after the other.

A change to `tables` is a revision in `versions`, whose `down_revision` is the last one before it. Columns that are
added have a default of the server, since the release before goes on writing while this one is started.
"""
