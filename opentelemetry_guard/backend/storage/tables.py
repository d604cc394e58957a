"""The tables, as SQLAlchemy knows them; how a database gets there is told by `migrations`.

Every statement is built from these names, and is the same on SQLite and PostgreSQL. What differs is how rows are laid
out: PostgreSQL keeps events and metrics by the day on which they came, so that a day is deleted at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
    literal_column,
)

from .functions import position

DAY_SECONDS = 86_400
"""Seconds of a day in UTC; days are counted since the Unix epoch."""

Number = BigInteger().with_variant(Integer, "sqlite")
"""A whole number of 64 bits; SQLite's are all of that size, and its row ids have to be called INTEGER."""


NUL_SHOWN = "\ufffd"
"""What a NUL becomes, which PostgreSQL doesn't store: the mark of what can't be shown."""


def without_nul(value: str | None) -> str | None:
    """Return a text as it is stored."""
    return value.replace("\0", NUL_SHOWN) if value is not None and "\0" in value else value


class Words(TypeDecorator[str]):
    """Text of any kind, but for NUL (`without_nul`), on either database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is stored for `value`, and what is compared with it."""
        return without_nul(value)


def day_of(moment: float) -> int:
    """Return the number of the day that holds `moment` (Unix seconds)."""
    return int(moment // DAY_SECONDS)


def _text(name: str) -> Column[str]:
    return Column(name, Words, nullable=False)


def _number(name: str, server_default: str | None = None) -> Column[int]:
    return Column(name, Number, nullable=False, autoincrement=False, server_default=server_default)


def _real(name: str) -> Column[float]:
    return Column(name, Double, nullable=False)


metadata = MetaData()
"""All tables."""


def _table(name: str, *columns: Column[int] | Column[str] | Column[float] | Column[bytes], key: Iterable[str]) -> Table:
    """Return a table whose rows are found by `key`, and which SQLite keeps in its order."""
    return Table(name, metadata, *columns, PrimaryKeyConstraint(*key), sqlite_with_rowid=False)


# What a row says is in `row`; the columns beside it repeat what is searched by.
events = Table(
    "events",
    metadata,
    _number("id"),
    _text("project_id"),
    _text("batch_id"),
    _real("received_at"),
    _real("occurred_at"),
    _text("event_type"),
    _text("action"),
    _text("address"),
    _text("endpoint"),
    _text("service"),
    _text("row"),
    # On a table in parts a key would have to name the day.
    PrimaryKeyConstraint("id").ddl_if(dialect="sqlite"),
    postgresql_partition_by="RANGE (received_at)",
)

SEARCHED = ("address", "endpoint", "event_type", "action", "service")
"""Columns that events are filtered by, the most selective first; each has an index in the order of the list."""

_ROWS = ("event_type", "action", "address", "endpoint", "service")


def _for_search(name: str, *columns: str, holding: Iterable[str] = ()) -> None:
    """Declare an index of events; on SQLite it holds more columns, so that no row is fetched for comparing."""
    more = [column for column in holding if column not in columns]
    Index(name, *(events.c[column] for column in (*columns, *more))).ddl_if(dialect="sqlite")
    Index(name, *(events.c[column] for column in columns)).ddl_if(dialect="postgresql")


_for_search("events_by_time", "project_id", "occurred_at", "id", holding=_ROWS)
_for_search("events_by_address", "project_id", "address", "occurred_at", "id", holding=_ROWS)
_for_search("events_by_endpoint", "project_id", "endpoint", "occurred_at", "id", holding=_ROWS)
_for_search("events_by_event_type", "project_id", "event_type", "occurred_at", "id")
_for_search("events_by_action", "project_id", "action", "occurred_at", "id")
_for_search("events_by_service", "project_id", "service", "occurred_at", "id")
_for_search("events_by_kind", "event_type", "id")

TRACE_DIGITS = 32
"""Hexadecimal digits of a whole trace id (W3C Trace Context)."""

_TRACE_BEGINS = '"trace_id":"'


# Read off the row, and in no column: an index of what was stored before needs no row to be written again, and a process
# of an earlier release that goes on for a while writes rows that are in it.
_trace_at = position(events.c.row, literal_column(f"'{_TRACE_BEGINS}'"))
TRACE = func.lower(
    func.substr(events.c.row, _trace_at + literal_column(str(len(_TRACE_BEGINS))), literal_column(str(TRACE_DIGITS)))
)
"""The first trace id that is in the JSON of an event, as much of it as a whole one has (`arriving.read_events`)."""
HAS_TRACE = _trace_at > literal_column("0")
"""Whether there is one: the index by it has no other events."""
Index(
    "events_by_trace",
    *(events.c.project_id, TRACE, events.c.occurred_at, events.c.id),
    sqlite_where=HAS_TRACE,
    postgresql_where=HAS_TRACE,
)
Index("events_by_id", events.c.id).ddl_if(dialect="postgresql")
Index("events_by_arrival", events.c.received_at).ddl_if(dialect="sqlite")

# By these an event is known that comes again; `key` is its UUID. In a table of its own, since what is unique within
# the parts of `events` is not unique among them.
event_keys = _table(
    "event_keys",
    _text("project_id"),
    Column("key", LargeBinary, nullable=False),
    _number("day"),
    key=("project_id", "key"),
)
# Rows lie in the order of their arrival on PostgreSQL: the first and last day of each stretch of them are enough.
Index("event_keys_by_day", event_keys.c.day, postgresql_using="brin")

metric_batches = _table(
    "metric_batches", _text("project_id"), _text("batch_id"), _real("received_at"), key=("project_id", "batch_id")
)
Index("metric_batches_by_arrival", metric_batches.c.received_at, postgresql_using="brin")

metrics = Table(
    "metrics",
    metadata,
    _number("id"),
    _text("project_id"),
    _text("batch_id"),
    _real("received_at"),
    _text("metric_type"),
    _text("row"),
    PrimaryKeyConstraint("id").ddl_if(dialect="sqlite"),
    postgresql_partition_by="RANGE (received_at)",
)
Index("metrics_by_type", metrics.c.metric_type, metrics.c.id)
Index("metrics_by_id", metrics.c.id).ddl_if(dialect="postgresql")
Index("metrics_by_arrival", metrics.c.received_at).ddl_if(dialect="sqlite")

# The id that a row of `events` or `metrics` was given last: ids are in the order of arrival, and none comes twice.
last_ids = _table("last_ids", _text("content"), _number("last_id"), key=("content",))

# How many rows there are of each kind and day: counting a million of them takes the better part of a second.
stored_rows = _table(
    "stored_rows",
    _text("content"),
    _number("day"),
    _text("kind"),
    _number("amount"),
    key=("content", "day", "kind"),
)

agents = _table(
    "agents",
    _text("project_id"),
    _text("install_id"),
    _text("user_agent"),
    _real("last_seen"),
    _text("status"),
    key=("project_id", "install_id"),
)

rules = _table("rules", _text("project_id"), _number("version"), _text("rules"), key=("project_id", "version"))

# A revoked key stays, so that the list shows what became of it. `digest` is the key's SHA-256.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Number, primary_key=True),
    _text("project_id"),
    _text("label"),
    Column("digest", LargeBinary, nullable=False, unique=True),
    _real("created_at"),
    Column("revoked_at", Double),
    Column("per_minute", Number),
    Column("role", Words, nullable=False, server_default="sender"),
    sqlite_autoincrement=True,
)

# Rollups: what the overview adds up, kept in the transaction that stores the rows.
event_minutes = _table(
    "event_minutes",
    _text("project_id"),
    _number("minute"),
    _text("event_type"),
    _number("events"),
    _number("blocked"),
    key=("project_id", "minute", "event_type"),
)

event_tops = _table(
    "event_tops",
    _text("project_id"),
    _text("dimension"),
    _number("seconds"),
    _number("span"),
    _text("value"),
    _number("events"),
    key=("project_id", "dimension", "seconds", "span", "value"),
)
Index(
    "event_tops_by_events", *(event_tops.c[name] for name in ("project_id", "dimension", "seconds", "span", "events"))
)

metric_minutes = _table(
    "metric_minutes",
    _text("project_id"),
    _number("minute"),
    _text("metric_type"),
    _real("total"),
    _real("weight"),
    _real("largest"),
    key=("project_id", "minute", "metric_type"),
)

latency_minutes = _table(
    "latency_minutes",
    _text("project_id"),
    _number("minute"),
    _number("bucket"),
    _real("requests"),
    key=("project_id", "minute", "bucket"),
)

# Lists are JSON: they are only ever read with their incident. `over` is 0 for the one of its key that goes on.
incidents = Table(
    "incidents",
    metadata,
    Column("id", Number, primary_key=True),
    _text("project_id"),
    _text("correlation_key"),
    _real("first_seen"),
    _real("last_seen"),
    _number("events"),
    _number("requests"),
    _number("stopped"),
    _number("severity"),
    _number("threat_score"),
    _text("last_action"),
    _text("event_types"),
    _text("addresses"),
    _text("targets"),
    _text("latest"),
    _number("last_event"),
    _text("state"),
    _real("state_since"),
    _number("over", server_default="0"),
    Column("campaigns", Words, nullable=False, server_default="[]"),
    UniqueConstraint("project_id", "correlation_key", "over"),
    sqlite_autoincrement=True,
)
# Holds what the list is filtered by, so that no row is fetched for comparing.
Index("incidents_by_activity", *(incidents.c[name] for name in ("project_id", "last_seen", "id", "state", "severity")))
Index(
    "incidents_of_campaigns",
    *(incidents.c[name] for name in ("project_id", "last_seen")),
    sqlite_where=incidents.c.campaigns != "[]",
    postgresql_where=incidents.c.campaigns != "[]",
)

# What alert rules have found: one row for each subject of a rule.
alerts = Table(
    "alerts",
    metadata,
    Column("id", Number, primary_key=True),
    _text("project_id"),
    _text("rule"),
    _text("subject"),
    _text("kind"),
    _text("severity"),
    _text("text"),
    _number("count"),
    _real("opened_at"),
    _real("last_seen"),
    _text("state"),
    _real("state_since"),
    Column("waiting", Boolean, nullable=False),
    Column("incident", Number),
    UniqueConstraint("project_id", "rule", "subject"),
    sqlite_autoincrement=True,
)
Index("alerts_by_opening", alerts.c.project_id, alerts.c.opened_at, alerts.c.id)

# A row for each notification and channel; `content` is the same in all rows of a notification.
alert_notices = _table(
    "alert_notices",
    _text("notice"),
    _text("channel"),
    _text("rule"),
    _text("content"),
    _real("created_at"),
    _number("failures"),
    _real("next_try"),
    _text("error"),
    Column("error_at", Double),
    Column("sent_at", Double),
    key=("notice", "channel"),
)
Index("alert_notices_by_time", alert_notices.c.created_at)

# Who of several processes does what only one is to do.
leases = _table("leases", _text("name"), _text("holder"), _real("until"), key=("name",))

# What every process of the database signs with.
signing_keys = _table("signing_keys", _text("name"), Column("value", LargeBinary, nullable=False), key=("name",))

# Sessions of the dashboard that hold no longer, though their cookies say so.
ended_sessions = _table("ended_sessions", _text("id"), _real("expires_at"), key=("id",))

# How many requests somebody may still make, of all processes together.
rate_buckets = _table(
    "rate_buckets", _text("name"), *(_real(name) for name in ("tokens", "since", "full_at")), key=("name",)
)
Index("rate_buckets_by_filling", rate_buckets.c.full_at)

# Who asks for rules, and which version they have; what is over is deleted soon.
askers = _table(
    "askers",
    *(_text(name) for name in ("project_id", "install_id")),
    *(_real(name) for name in ("asked_at", "there_until")),
    _number("ttl"),
    Column("has", Number),
    key=("project_id", "install_id"),
)
Index("askers_by_end", askers.c.there_until)

user_places = _table(
    "user_places",
    _text("project_id"),
    _text("kind"),
    _text("user_name"),
    _text("place"),
    _real("first_seen"),
    _real("last_seen"),
    key=("project_id", "kind", "user_name", "place"),
)
Index("user_places_by_time", user_places.c.project_id, user_places.c.first_seen)

# What is long is last: a row is read up to what is wanted of it.
ban_lists = Table(
    "ban_lists",
    metadata,
    *(_text(name) for name in ("project_id", "url", "headers", "etag", "last_modified", "problem")),
    *(_real(name) for name in ("every", "due_at", "checked_at", "changed_at")),
    *(_number(name) for name in ("size", "passed_over")),
    _text("content"),
    PrimaryKeyConstraint("project_id", "url"),
)
