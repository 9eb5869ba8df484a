//! What publications let through: production decodes the gap with `pgoutput`
//! under the same publications through a real slot; reduced to its net effect that must be what the
//! events say. Where stream and state cannot agree, the state wins and a warning is named for it.

mod altered;
mod drift;
mod gap;

use std::collections::BTreeSet;

use deltacompare_testbed::{Options, Postgres, Production};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};

use crate::support::{
    Events, Gap, NetChange, Printer, Run, State, Streamed, TableName, assert_recovered,
    deltacompare, net_of_stream, printers, read_stream,
};

/// A table as a publication covers it, in the test's own words.
struct Covered {
    table: &'static str,
    /// Empty: all that are not generated, and the rows of the table alone.
    columns: &'static [&'static str],
    key: &'static [&'static str],
    filter: &'static str,
}

impl Covered {
    const fn all(table: &'static str) -> Self {
        Self { table, columns: &[], key: &[], filter: "true" }
    }

    async fn state(&self, server: &Printer) -> State {
        if self.columns.is_empty() {
            State::read(server, &TableName::of(self.table)).await
        } else {
            let table = TableName::of(self.table).to_string();
            State::covered(server, self.key, self.columns, &table, self.filter).await
        }
    }
}

/// What one slot reads.
struct Subscription {
    publications: &'static [&'static str],
    /// The first PostgreSQL that has such publications.
    since: u32,
    tables: &'static [Covered],
}

const SUBSCRIPTIONS: &[Subscription] = &[
    Subscription {
        publications: &["everything"],
        since: 14,
        tables: &[
            Covered::all("plain"),
            Covered::all("rekeyed"),
            Covered::all("indexed"),
            Covered::all("whole"),
            Covered::all("bag"),
            Covered::all("truncated"),
            Covered::all("computed"),
            Covered::all("parent"),
            Covered::all("child"),
            Covered::all("part_a"),
            Covered::all("part_b_1"),
            Covered::all("part_b_2"),
            Covered::all("far_part_b"),
            Covered::all("filtered"),
            Covered::all("filtered_full"),
            Covered::all("listed"),
            Covered::all("narrow"),
            Covered::all("shared"),
            Covered::all("sold.one"),
            Covered::all("sold.two"),
        ],
    },
    Subscription {
        publications: &["roots"],
        since: 14,
        tables: &[Covered::all("part"), Covered::all("plain")],
    },
    Subscription {
        publications: &["family"],
        since: 14,
        tables: &[Covered::all("parent"), Covered::all("child")],
    },
    Subscription { publications: &["parent_alone"], since: 14, tables: &[Covered::all("parent")] },
    // One slot, a partition by itself and its root: sent once, as the root's.
    Subscription {
        publications: &["roots", "part_a_alone"],
        since: 14,
        tables: &[Covered::all("part"), Covered::all("plain")],
    },
    Subscription {
        publications: &["rows"],
        since: 15,
        tables: &[
            Covered {
                table: "filtered",
                columns: &["id", "a", "b"],
                key: &["id"],
                filter: "id > 50",
            },
            Covered {
                table: "filtered_full",
                columns: &["id", "a", "b"],
                key: &["id"],
                filter: "a > 10",
            },
            Covered { table: "listed", columns: &["id", "a", "c"], key: &["id"], filter: "true" },
            Covered {
                table: "narrow",
                columns: &["id", "region", "a"],
                key: &["id", "region"],
                filter: "region = 'eu'",
            },
        ],
    },
    Subscription {
        publications: &["part_filtered"],
        since: 15,
        tables: &[Covered {
            table: "part",
            columns: &["id", "place", "v"],
            key: &["id", "place"],
            filter: "id > 20",
        }],
    },
    Subscription {
        publications: &["leaf_filtered"],
        since: 15,
        tables: &[
            Covered {
                table: "part_a",
                columns: &["id", "place", "v"],
                key: &["id", "place"],
                filter: "id > 20",
            },
            Covered::all("part_b_1"),
        ],
    },
    Subscription {
        publications: &["in_schema"],
        since: 15,
        tables: &[Covered::all("sold.one"), Covered::all("sold.two")],
    },
    Subscription {
        publications: &["east"],
        since: 15,
        tables: &[Covered {
            table: "shared",
            columns: &["id", "region", "v"],
            key: &["id"],
            filter: "region = 'east'",
        }],
    },
    Subscription {
        publications: &["east", "west"],
        since: 15,
        tables: &[Covered {
            table: "shared",
            columns: &["id", "region", "v"],
            key: &["id"],
            filter: "region in ('east', 'west')",
        }],
    },
    Subscription {
        publications: &["generated"],
        since: 18,
        tables: &[Covered {
            table: "computed",
            columns: &["id", "a", "twice"],
            key: &["id"],
            filter: "true",
        }],
    },
    Subscription {
        publications: &["generated_list"],
        since: 18,
        tables: &[Covered {
            table: "computed",
            columns: &["id", "twice"],
            key: &["id"],
            filter: "true",
        }],
    },
];

/// Publications that leave operations out, what of a table they leave out, and what the stream may
/// then hold.
const PARTIAL: &[(&str, &str, &str, &str)] = &[
    ("inserts", "plain", "I", "leaves out updates, deletes, truncates"),
    ("no_deletes", "plain", "IU", "leaves out deletes"),
    ("no_truncates", "truncated", "IUD", "leaves out truncates"),
    ("nothing_identifies", "nothing", "I", "leaves out updates, deletes, truncates"),
];

async fn decode(production: &Production, slot: &str, publications: &[&str]) -> Vec<Streamed> {
    let messages: Vec<(Vec<u8>,)> = production
        .rows(format!(
            "select data from pg_logical_slot_peek_binary_changes(
                '{slot}', null, null, 'proto_version', '1', 'publication_names', '{}')",
            publications.join(",")
        ))
        .await
        .unwrap();
    read_stream(&messages.into_iter().map(|(message,)| message).collect::<Vec<_>>())
}

async fn run(gap: &Gap, publications: &[&str], more: &[&str]) -> Run {
    let mut arguments = vec![
        "run",
        "--format",
        "landing",
        "--sink",
        "ndjson:{dir}/events",
        "--report",
        "{dir}/report",
    ];
    for publication in publications {
        arguments.extend(["--publication", publication]);
    }
    arguments.extend(more);
    let run = deltacompare(gap, &arguments).run().await;
    run.assert_completed();
    run
}

fn named(run: &Run) -> BTreeSet<TableName> {
    let report = run.report("report");
    let tables = report["tables"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    tables
        .iter()
        .map(|table| TableName::new(&text(&table["schema"]), &text(&table["table"])))
        .collect()
}

/// The columns that a table's old rows are told with, of deletes, and whether updates tell them.
fn told_of_old_rows(events: &Events, table: &TableName) -> (BTreeSet<Vec<String>>, bool) {
    let of = events.of_table(table);
    let deletes = of.iter().filter(|event| event.op == "D");
    let columns = deletes.map(|event| event.before_row().unwrap().into_keys().collect());
    let updates = of.iter().any(|event| event.op == "U" && event.before.is_some());
    (columns.collect(), updates)
}

fn streamed_of_old_rows(stream: &[Streamed], table: &TableName) -> BTreeSet<Vec<String>> {
    let deletes = stream.iter().filter_map(|change| match change {
        Streamed::Delete(name, old) if name == table => Some(old.keys().cloned().collect()),
        _ => None,
    });
    deletes.collect()
}

async fn check(gap: &Gap, production_says: &[Streamed], of: &Subscription, strategy: &str) {
    let what = format!("{:?}, {strategy}", of.publications);
    let run = run(gap, of.publications, &["--strategy", strategy]).await;
    let events = run.events("events");
    let names: BTreeSet<TableName> =
        of.tables.iter().map(|covered| TableName::of(covered.table)).collect();
    assert_eq!(named(&run), names, "{what}: other tables");
    let mut compared = 0;
    let (on_base, on_head) = printers(gap).await;
    for covered in of.tables {
        let table = TableName::of(covered.table);
        let (base, head) = (covered.state(&on_base).await, covered.state(&on_head).await);
        let net = net_of_stream(production_says, &table, &base);
        assert_eq!(net, base.changes_to(&head), "{what}: the stream is not the state, {table}");
        assert!(!net.is_empty(), "{what}: nothing happened to {table}");
        let mut changes = events.changes(&on_head, &table).await;
        changes.sort();
        assert_eq!(changes, net, "{what}: {table}");
        compared += changes.len();
        let (told, _) = told_of_old_rows(&events, &table);
        let streamed = streamed_of_old_rows(production_says, &table);
        if !told.is_empty() && !streamed.is_empty() {
            assert_eq!(told, streamed, "{what}: old rows of {table}");
        }
        // No deviation is claimed where there is none.
        let report = run.table("report", &format!("{}.{}", table.schema, table.name));
        assert_eq!(report["warnings"], serde_json::json!([]), "{what}: {table}");
        if strategy == "auto" && !table.name.starts_with("truncated") {
            assert_eq!(report["strategy"], "row-versions", "{what}: {report:#}");
        }
    }
    assert_eq!(events.0.len(), compared, "{what}: events of other tables");
}

/// A publication that leaves operations out: the stream does not tell the state, the events do.
async fn check_partial(
    gap: &Gap,
    stream: &[Streamed],
    (publication, table, operations, warning): (&str, &str, &str, &str),
) {
    let run = run(gap, &[publication], &[]).await;
    let events = run.events("events");
    let name = TableName::of(table);
    let (base, head) = printers(gap).await;
    let mut changes = events.changes(&head, &name).await;
    let (base, head) = (State::read(&base, &name).await, State::read(&head, &name).await);
    changes.sort();
    assert_eq!(changes, base.changes_to(&head), "{publication}");
    let mut kinds = BTreeSet::new();
    for change in stream {
        kinds.insert(match change {
            Streamed::Insert(..) => 'I',
            Streamed::Update(..) => 'U',
            Streamed::Delete(..) => 'D',
            Streamed::Truncate(_) => 'T',
        });
    }
    assert_eq!(kinds, operations.chars().collect(), "{publication}");
    let deletes = changes.iter().filter(|change| matches!(change, NetChange::Delete(_))).count();
    assert!(deletes > 0, "{publication}: the stream could have said all of it");
    let warnings = run.table("report", &format!("public.{table}"))["warnings"].to_string();
    assert!(
        warnings.contains("publish list: ") && warnings.contains(warning),
        "{publication}: {warnings}"
    );
}

/// Old rows: what the replica identity tells by default, all of it with `--before full`.
async fn check_old_rows(gap: &Gap) {
    let run = run(gap, &["everything"], &["--before", "full"]).await;
    let events = run.events("events");
    for table in ["plain", "indexed", "whole", "bag", "rekeyed"] {
        let name = TableName::of(table);
        let base = State::of(&gap.base, &name).await;
        let mut old_rows = 0;
        for event in events.of_table(&name) {
            let before = event.before_row();
            if event.op == "I" {
                assert_eq!(before, None, "{event:?}");
                continue;
            }
            let before = before.unwrap();
            assert_eq!(base.get(&base.key_of(&before)), Some(&before), "{event:?}");
            old_rows += 1;
        }
        assert!(old_rows > 0, "{table}");
    }
}

async fn events_are_what_the_slot_would_have_said() {
    let postgres = Postgres::find(None).unwrap();
    let major = postgres.major();
    let production = Production::start(&postgres, Options::default()).await.unwrap();
    for statements in gap::schema(major) {
        production.sql(statements).await.unwrap();
    }
    let subscriptions = || SUBSCRIPTIONS.iter().filter(|of| of.since <= major);
    let mut streams = Vec::new();
    let mut partial = Vec::new();
    let gap = Gap::own_over(production, async |production| {
        production.create_logical_slot("slot", "pgoutput").await.unwrap();
        for statement in gap::STATEMENTS {
            production.sql(*statement).await.unwrap();
        }
        for of in subscriptions() {
            streams.push(decode(production, "slot", of.publications).await);
        }
        for of in PARTIAL {
            partial.push(decode(production, "slot", &[of.0]).await);
        }
    })
    .await;
    // A recovery looks for writes once more after two seconds: several at a time.
    let mut checks: Vec<BoxFuture<'_, ()>> =
        vec![check_old_rows(&gap).boxed(), check_for_all(&gap).boxed()];
    for (of, stream) in subscriptions().zip(&streams) {
        checks.push(check(&gap, stream, of, "auto").boxed());
        if matches!(of.publications[..], ["everything" | "rows" | "part_filtered" | "generated"]) {
            checks.push(check(&gap, stream, of, "full").boxed());
        }
    }
    for (of, stream) in PARTIAL.iter().zip(&partial) {
        checks.push(check_partial(&gap, stream, *of).boxed());
    }
    for strategy in ["auto", "content", "full"] {
        checks.push(deletes_come_first(&gap, strategy).boxed());
    }
    stream::iter(checks).for_each_concurrent(6, |check| check).await;
}

/// `FOR ALL TABLES` has every table whose changes are logged, and nothing else.
async fn check_for_all(gap: &Gap) {
    let run = run(gap, &["for_all"], &[]).await;
    let mut expected: BTreeSet<TableName> =
        SUBSCRIPTIONS[0].tables.iter().map(|covered| TableName::of(covered.table)).collect();
    expected.insert(TableName::of("nothing"));
    assert_eq!(named(&run), expected);
    let warnings = run.report("report")["warnings"].to_string();
    assert!(warnings.contains("publication created in the gap: "), "{warnings}");
    for table in &expected {
        assert_recovered(gap, table, &run.events("events")).await;
    }
}

/// A row whose key changed is a delete and an insert, in this order.
async fn deletes_come_first(gap: &Gap, strategy: &str) {
    let run =
        run(gap, &["everything"], &["--table", "public.rekeyed", "--strategy", strategy]).await;
    let events = run.events("events");
    let operations: String = events.of("rekeyed").iter().map(|event| event.op.as_str()).collect();
    let (deletes, inserts) = operations.split_at(operations.find('I').unwrap());
    assert!(deletes.contains('D') && !inserts.contains('D'), "{strategy}: {operations}");
}

tests! {
    [altered, drift]
    events_are_what_the_slot_would_have_said: own_servers seconds(600),
}
