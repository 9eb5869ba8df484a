#!/usr/bin/env python3
"""Applies `landing` events to the tables of a PostgreSQL database: see README.md."""

import argparse
import json
import os
import sys

import psycopg
from psycopg import errors, sql
from psycopg.types.json import Jsonb

SET_UP = """
create schema if not exists landing;
-- The version that was applied last to each row, also of rows that are deleted by now. `lagging` has
-- the columns that streamed updates left out as unchanged, each with the version that told it last: a
-- recovered image that is newer than that may still fill it.
create table if not exists landing.version (
  schema_name text, table_name text, key text, version numeric, event_id uuid,
  deleted boolean not null, lagging jsonb not null default '{}',
  primary key (schema_name, table_name, key)
);
-- Events of tables without a key that were applied: equal rows are told apart by nothing else.
create table if not exists landing.applied (event_id uuid primary key);
-- Events that a constraint does not let in yet, in the order of their arrival.
create table if not exists landing.parked (
  number bigint generated always as identity primary key,
  schema_name text, table_name text, key text, event text not null, reason text not null
);
"""

# Text means the same in every session under these.
SETTINGS = """
set datestyle = 'ISO, MDY'; set timezone = 'UTC'; set intervalstyle = postgres;
set lc_monetary = 'C'; set xmloption = content; set search_path = pg_catalog;
"""

# Unique, foreign key, exclusion and not-null constraints: another event may make room.
PARKED_BY = (
    errors.UniqueViolation,
    errors.ForeignKeyViolation,
    errors.ExclusionViolation,
    errors.NotNullViolation,
)


def identifier(*names):
    """A quoted name; psycopg looks for its placeholders in names too."""
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def parse(line):
    """An event of a line, numbers as their text; nothing for a tombstone."""
    event = json.loads(line, parse_int=str, parse_float=str)
    # Written with --ndjson-keys.
    return event["value"] if "op" not in event else event


def place(event):
    return event["schema"], event["table"], json.dumps(event["key"], sort_keys=True)


class Table:
    """A target table: its columns' types, as SQL names them."""

    def __init__(self, connection, schema, name):
        self.name = identifier(schema, name)
        rows = connection.execute(
            """select a.attname, format_type(a.atttypid, a.atttypmod), a.attidentity = 'a'
                 from pg_attribute a
                where a.attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
                  and a.attnum > 0 and not a.attisdropped""",
            (schema, name),
        ).fetchall()
        if not rows:
            raise SystemExit(f"{schema}.{name} is not in the target: create it first")
        self.types = {column: declared for column, declared, _ in rows}
        # PostgreSQL lets nobody update these.
        self.fixed = {column for column, _, always in rows if always}

    def value(self, column):
        if column not in self.types:
            raise SystemExit(f"{self.name.as_string()} has no column {column}: add it first")
        return sql.SQL("%s::" + self.types[column].replace("%", "%%"))

    def where(self, key):
        """The condition for a key and its parameters. Keys are never null, and their types have `=`,
        by which 1.0 and 1.00 are one key; downstream they are two."""
        condition = sql.SQL(" and ").join(
            sql.SQL("{0} = {1} and format('%%s', {0}) = format('%%s', {1})").format(
                identifier(column), self.value(column)
            )
            for column in key
        )
        return condition, [value for value in key.values() for _ in range(2)]

    def read(self, connection, key):
        """The row as text, or nothing."""
        columns = list(self.types)
        condition, parameters = self.where(key)
        row = connection.execute(
            sql.SQL("select {} from {} where {}").format(
                sql.SQL(", ").join(
                    sql.SQL("case when num_nulls({0}) = 0 then format('%%s', {0}) end").format(
                        identifier(column)
                    )
                    for column in columns
                ),
                self.name,
                condition,
            ),
            parameters,
        ).fetchone()
        return row and dict(zip(columns, row))

    def insert(self, connection, row):
        connection.execute(
            sql.SQL("insert into {} ({}) overriding system value values ({})").format(
                self.name,
                sql.SQL(", ").join(map(identifier, row)),
                sql.SQL(", ").join(map(self.value, row)),
            ),
            list(row.values()),
        )

    def update(self, connection, key, row):
        """Whether there was such a row."""
        condition, parameters = self.where(key)
        changed = {
            column: value
            for column, value in row.items()
            if column not in key and column not in self.fixed
        }
        if not changed:
            return self.read(connection, key) is not None
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(identifier(column), self.value(column))
            for column in changed
        )
        return (
            connection.execute(
                sql.SQL("update {} set {} where {}").format(
                    self.name, assignments, condition
                ),
                [*changed.values(), *parameters],
            ).rowcount
            > 0
        )

    def delete(self, connection, key):
        condition, parameters = self.where(key)
        connection.execute(
            sql.SQL("delete from {} where {}").format(self.name, condition), parameters
        )

    def delete_one_like(self, connection, row):
        """Deletes one of the rows with this image, of a table without a key."""
        same = sql.SQL(" and ").join(
            sql.SQL("({0})::text is not distinct from ({1})::text").format(
                identifier(column), self.value(column)
            )
            for column in row
        )
        connection.execute(
            sql.SQL(
                "delete from {0} where (tableoid, ctid) = "
                "(select tableoid, ctid from {0} where {1} limit 1)"
            ).format(self.name, same),
            list(row.values()),
        )


def texts(values):
    """A row of an event as PostgreSQL's text; numbers were never parsed."""
    as_text = {True: "true", False: "false"}
    return {
        column: as_text[value] if isinstance(value, bool) else value
        for column, value in (values or {}).items()
    }


class Consumer:
    """Applies events, each at most once and never an older one over a newer one."""

    def __init__(self, target):
        self.connection = psycopg.connect(target, autocommit=True)
        self.connection.execute(SET_UP)
        self.connection.execute(SETTINGS)
        self.tables = {}

    def table(self, event):
        name = event["schema"], event["table"]
        if name not in self.tables:
            self.tables[name] = Table(self.connection, *name)
        return self.tables[name]

    def apply_batch(self, lines):
        """Applies events and remembers those that have to wait, in one transaction: what was read
        before may be forgotten once it returns."""
        with self.connection.transaction():
            for line in lines:
                self.apply_or_park(line)

    def apply_or_park(self, line):
        event = parse(line)
        if event is None:
            return
        reason = "an earlier event of the same row waits"
        if "event_id" in event or not self.waits(event):
            try:
                with self.connection.transaction():
                    return self.apply(event)
            except PARKED_BY as error:
                reason = str(error)
        self.connection.execute(
            """insert into landing.parked (schema_name, table_name, key, event, reason)
               values (%s, %s, %s, %s, %s)""",
            (*place(event), line, reason),
        )

    def waits(self, event):
        """Whether an event of this row is parked: streamed events of a row keep their order."""
        return self.connection.execute(
            """select exists (select from landing.parked
                where (schema_name, table_name, key) = (%s, %s, %s))""",
            place(event),
        ).fetchone()[0]

    def apply(self, event):
        guard = self.guard(event)
        if guard is None:
            return
        table, key, row = self.table(event), texts(event["key"]), texts(event["after"])
        if event["key"] is None:
            if event["op"] == "D":
                table.delete_one_like(self.connection, texts(event["before"]))
            else:
                table.insert(self.connection, row)
        elif guard == "fill":
            table.update(self.connection, key, row)
        elif event["op"] == "D":
            table.delete(self.connection, key)
        elif not table.update(self.connection, key, row):
            table.insert(self.connection, row)

    def guard(self, event):
        """Whether the event is to be applied ("apply"), fills lagging columns ("fill", with all others
        taken out of it), or is old (None). Stores the row's new version."""
        event_id = event.get("event_id")
        if event["key"] is None:
            fresh = self.connection.execute(
                "insert into landing.applied values (%s) on conflict do nothing", (event_id,)
            ).rowcount
            return "apply" if fresh else None
        name = place(event)
        version = event.get("version")
        known = self.connection.execute(
            """select version, event_id::text, deleted, lagging from landing.version
                where (schema_name, table_name, key) = (%s, %s, %s) for update""",
            name,
        ).fetchone()
        last, lagging = None, {}
        if known:
            last, last_id, deleted, lagging = known
            recovered = event_id is not None
            older = last is not None and version is not None and last > int(version)
            repeated = last_id == event_id if recovered else last is not None and last == int(version)
            if repeated:
                return None
            if older:
                row = event["after"] or {}
                filled = {
                    column: row[column]
                    for column, told in lagging.items()
                    if column in row and told < int(version)
                }
                if not recovered or deleted or not filled:
                    return None
                event["after"] = filled
                self.connection.execute(
                    """update landing.version set lagging = lagging || %s
                        where (schema_name, table_name, key) = (%s, %s, %s)""",
                    (Jsonb({column: int(version) for column in filled}), *name),
                )
                return "fill"
        unchanged = event.get("unchanged") or ()
        lagging = {column: lagging.get(column, int(last or 0)) for column in unchanged}
        self.connection.execute(
            """insert into landing.version values (%s, %s, %s, %s, %s, %s, %s)
               on conflict (schema_name, table_name, key) do update
                  set (version, event_id, deleted, lagging)
                      = (excluded.version, excluded.event_id, excluded.deleted,
                         excluded.lagging)""",
            (*name, version, event_id, event["op"] == "D", Jsonb(lagging)),
        )
        return "apply"

    def settle(self):
        """Tries parked events again until none moves. Yields how many are left."""
        while True:
            parked = self.connection.execute(
                "select number, event from landing.parked order by number"
            ).fetchall()
            stuck = set()
            for number, line in parked:
                event = parse(line)
                streamed = "event_id" not in event
                if streamed and place(event) in stuck or not self.unpark(number, event):
                    stuck.add(place(event))
            if len(parked) == self.parked():
                break
        if parked and self.apply_together(parked):
            return 0
        return len(parked)

    def parked(self):
        return self.connection.execute("select count(*) from landing.parked").fetchone()[0]

    def unpark(self, number, event):
        try:
            with self.connection.transaction():
                self.apply(event)
                self.connection.execute("delete from landing.parked where number = %s", (number,))
            return True
        except PARKED_BY:
            return False

    def apply_together(self, parked):
        """Rows that wait for each other, as those whose unique values were swapped: all of them go,
        then all come, in one transaction. Foreign keys are checked by nobody meanwhile
        (`session_replication_role`, as PostgreSQL's own subscriptions do); without the right to that,
        only where none of them would act on what goes."""
        try:
            with self.connection.transaction():
                may = self.connection.execute(
                    "select has_parameter_privilege('session_replication_role', 'set')"
                    if self.connection.info.server_version >= 150000
                    else "select rolsuper from pg_roles where rolname = current_user"
                ).fetchone()[0]
                if may:
                    self.connection.execute("set local session_replication_role = replica")
                rows = {}
                for _, line in parked:
                    event = parse(line)
                    guard = self.guard(event)
                    if guard is None:
                        continue
                    table, key = self.table(event), texts(event["key"])
                    if event["key"] is None:
                        rows[event["event_id"]] = table, texts(event["after"])
                        continue
                    if not may and self.acts_elsewhere(event):
                        return False
                    where = place(event)
                    if where not in rows:
                        rows[where] = table, table.read(self.connection, key) or {}
                        table.delete(self.connection, key)
                    if event["op"] == "D":
                        rows[where] = table, {}
                    else:
                        rows[where] = table, {**rows[where][1], **texts(event["after"])}
                for table, row in rows.values():
                    if row:
                        table.insert(self.connection, row)
                self.connection.execute("truncate landing.parked")
            return True
        except PARKED_BY:
            return False

    def acts_elsewhere(self, event):
        """Whether a foreign key changes other rows when one of this table's goes."""
        return self.connection.execute(
            """select exists (select from pg_constraint
                where confrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
                  and contype = 'f' and confdeltype in ('c', 'n', 'd'))""",
            (event["schema"], event["table"]),
        ).fetchone()[0]


def read_files(paths, consumer, batch=500):
    for path in paths:
        with sys.stdin if path == "-" else open(path, encoding="utf-8") as lines:
            waiting = []
            # A line that has no end yet was cut off by a crash and is written again.
            for line in (line for line in lines if line.endswith("\n")):
                waiting.append(line)
                if len(waiting) == batch:
                    consumer.apply_batch(waiting)
                    waiting = []
            consumer.apply_batch(waiting)


def read_event_hub(name, group, consumer):
    """Reads for ever. It begins at the start: what was applied before does nothing. Give the client
    a checkpoint store to begin where it stopped."""
    from azure.eventhub import EventHubConsumerClient  # pip install azure-eventhub

    client = EventHubConsumerClient.from_connection_string(
        os.environ["EVENT_HUB_CONNECTION_STRING"], consumer_group=group, eventhub_name=name
    )

    def received(context, events):
        consumer.apply_batch([event.body_as_str() for event in events])
        consumer.settle()
        context.update_checkpoint()

    with client:
        client.receive_batch(on_event_batch=received, starting_position="-1")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("files", nargs="*", help="NDJSON files; - is the standard input")
    arguments.add_argument("--target", default="", help="libpq's connection string; or PGHOST, …")
    arguments.add_argument("--event-hub", help="read this event hub instead")
    arguments.add_argument("--consumer-group", default="$Default")
    given = arguments.parse_args()
    consumer = Consumer(given.target)
    if given.event_hub:
        read_event_hub(given.event_hub, given.consumer_group, consumer)
    read_files(given.files, consumer)
    left = consumer.settle()
    if left:
        for reason, count in consumer.connection.execute(
            "select split_part(reason, E'\\n', 1), count(*) from landing.parked group by 1"
        ):
            print(f"{count} events wait: {reason}", file=sys.stderr)
        sys.exit(f"{left} events could not be applied; they are in landing.parked")


if __name__ == "__main__":
    main()
