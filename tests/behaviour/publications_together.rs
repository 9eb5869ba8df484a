//! Several publications of one slot, which pgoutput combines by operation and by level: a real slot
//! decodes the gap under each combination. Needs slots, and therefore servers of its own.

use std::collections::BTreeSet;

use deltacompare_testbed::{Options, Postgres, Production};
use futures_util::future::join_all;

use crate::support::{
    Gap, NetChange, Printer, Run, State, Streamed, TableName, deltacompare, net_of_stream,
    printers, read_stream,
};

/// A row filter, where PostgreSQL has them.
fn only(major: u32, condition: &str) -> String {
    if major < 15 { String::new() } else { format!(" where ({condition})") }
}

fn schema(major: u32) -> String {
    let over_100 = only(major, "id > 100");
    let over_900 = only(major, "id > 900");
    format!(
        "create table ta (id int primary key, a int);
         create publication a1 for table ta{over_100};
         create publication a2 for table ta with (publish = 'truncate');
         create publication a3 for table ta with (publish = '');
         create table tb (id int primary key, a int);
         create publication b1 for table tb{over_900};
         create publication emptied for all tables with (publish = 'truncate');
         create table td (id int primary key, a int) partition by range (id);
         create table td1 partition of td for values from (0) to (1000);
         create table td2 partition of td for values from (1000) to (2000);
         create publication d1 for table td{over_100}
           with (publish_via_partition_root, publish = 'insert');
         create publication d2 for table td1 with (publish = 'update,delete');
         create publication d3 for table td;
         create table te (id int primary key, a int) partition by range (id);
         create table te1 partition of te for values from (0) to (1000);
         create table te2 partition of te for values from (1000) to (2000);
         create publication e1 for table te1{over_100};
         create publication e2 for table te
           with (publish_via_partition_root, publish = 'truncate');
         create table tu (id int primary key, a int);
         create publication u1 for table tu{over_100};
         insert into ta select i, i from generate_series(1, 200) i;
         insert into tb select i, i from generate_series(1, 1000) i;
         insert into td select i, i from generate_series(1, 200) i;
         insert into te select i, i from generate_series(1, 200) i;
         insert into te select i, i from generate_series(1001, 1010) i;
         insert into tu select i, i from generate_series(1, 200) i;"
    )
}

const GAP: &[&str] = &[
    // First: a slot cannot decode what came before a publication that it reads.
    "create publication b2 for all tables with (publish = 'truncate')",
    "create publication b3 for all tables with (publish = '')",
    "update ta set a = -1 where id in (10, 110); delete from ta where id in (20, 120); \
     insert into ta values (1050, 1)",
    "update tb set a = -1 where id in (10, 910); delete from tb where id in (20, 920); \
     insert into tb values (1050, 1)",
    "update td set a = -1 where id in (10, 11, 110); delete from td where id in (20, 21, 120); \
     insert into td values (250, 1), (1050, 1)",
    "update te set a = -1 where id in (10, 110, 1001); delete from te where id in (20, 120, 1002); \
     insert into te values (250, 1), (1050, 1)",
    "create publication u2 for all tables with (publish = 'update')",
    "update tu set a = -1 where id in (10, 110); delete from tu where id in (120)",
];

/// One combination: publications, the table as which it sends, and the rows that are covered.
struct Case {
    publications: &'static [&'static str],
    table: &'static str,
    /// In 14, without row filters, it is `true`.
    filter: &'static str,
    keys: &'static [i64],
    keys_without_filters: &'static [i64],
    warnings: &'static [&'static str],
    /// Of the recovery as a whole.
    said: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        publications: &["a1", "a2"],
        table: "ta",
        filter: "id > 100",
        keys: &[110, 120, 1050],
        keys_without_filters: &[10, 20, 110, 120, 1050],
        warnings: &[],
        said: &[],
    },
    Case {
        publications: &["a1", "a3"],
        table: "ta",
        filter: "id > 100",
        keys: &[110, 120, 1050],
        keys_without_filters: &[10, 20, 110, 120, 1050],
        warnings: &[],
        said: &[],
    },
    // Of every other table the stream sends no row.
    Case {
        publications: &["b1", "b2", "b3"],
        table: "tb",
        filter: "id > 900",
        keys: &[910, 920, 1050],
        keys_without_filters: &[10, 20, 910, 920, 1050],
        warnings: &[],
        said: &["no rows published: "],
    },
    Case {
        publications: &["d1", "d2"],
        table: "td",
        filter: "true",
        keys: &[10, 11, 20, 21, 110, 120, 250, 1050],
        keys_without_filters: &[10, 11, 20, 21, 110, 120, 250, 1050],
        warnings: &["publish list", "filters by operation"],
        said: &["sent as its root: public.td1 is"],
    },
    // The one that truncates takes the rows to the root, where they have no filter.
    Case {
        publications: &["e1", "e2"],
        table: "te",
        filter: "id < 1000",
        keys: &[10, 20, 110, 120, 250],
        keys_without_filters: &[10, 20, 110, 120, 250],
        warnings: &["some partitions"],
        said: &["sent as its root: public.te1 is"],
    },
];

async fn run(gap: &Gap, publications: &[&str], more: &[&str]) -> Run {
    let mut arguments =
        vec!["run", "--format", "landing", "--sink", "ndjson:{dir}/events", "--report"];
    arguments.push("{dir}/report");
    publications.iter().for_each(|name| arguments.extend(["--publication", *name]));
    arguments.extend(more);
    deltacompare(gap, &arguments).run().await
}

fn key(change: &NetChange) -> i64 {
    let id = match change {
        NetChange::Insert(row) => row["id"].clone(),
        NetChange::Update { key, .. } | NetChange::Delete(key) => key[0].clone(),
    };
    id.unwrap().parse().unwrap()
}

/// The names of the warnings of a table.
fn warnings(run: &Run, table: &str) -> BTreeSet<String> {
    let report = run.table("report", &format!("public.{table}"));
    let warnings = report["warnings"].as_array().unwrap().iter();
    warnings.map(|w| w.as_str().unwrap().split_once(": ").unwrap().0.to_owned()).collect()
}

async fn check(gap: &Gap, major: u32, of: &Case, stream: &[Streamed], strategy: &str) {
    let what = format!("{:?}, {strategy}", of.publications);
    let table = TableName::of(of.table);
    let filter = if major < 15 && of.table != "te" { "true" } else { of.filter };
    let keys = if major < 15 { of.keys_without_filters } else { of.keys };
    let covered = async |server: &Printer| {
        State::covered(server, &["id"], &["id", "a"], &table.to_string(), filter).await
    };
    let (on_base, on_head) = printers(gap).await;
    let (base, head) = (covered(&on_base).await, covered(&on_head).await);
    on_base.close().await;
    on_head.close().await;
    let net = net_of_stream(stream, &table, &base);
    assert_eq!(net.iter().map(key).collect::<BTreeSet<_>>(), keys.iter().copied().collect());
    assert_eq!(net, base.changes_to(&head), "{what}: the stream is not the state");
    let run = run(gap, of.publications, &["--strategy", strategy]).await;
    run.assert_completed();
    let events = run.events("events");
    let mut changes = events.changes(&Printer::of(&gap.head).await, &table).await;
    changes.sort();
    assert_eq!(changes, net, "{what}");
    assert_eq!(events.0.len(), changes.len(), "{what}: events of other tables");
    let mut named = of.warnings.to_vec();
    named.retain(|name| major >= 15 || *name != "filters by operation");
    let named: BTreeSet<String> = named.into_iter().map(str::to_owned).collect();
    assert_eq!(warnings(&run, of.table), named, "{what}");
    let said = run.report("report")["warnings"].clone();
    let said: Vec<&str> = said.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    for expected in of.said {
        assert!(said.iter().any(|said| said.contains(expected)), "{what}: {said:?}");
    }
    assert!(!said.iter().any(|said| said.contains("no longer published")), "{said:?}");
}

/// A filter that only one operation has, and that came in the gap, brings no rows of its own: what
/// changed of the rows that it lets through is sent, as the stream does.
async fn filter_of_updates(gap: &Gap, major: u32, strategy: &str) {
    let run = run(gap, &["u1", "u2"], &["--table", "public.tu", "--strategy", strategy]).await;
    run.assert_completed();
    let events = run.events("events");
    let changes = events.changes(&Printer::of(&gap.head).await, &TableName::of("tu")).await;
    let keys: BTreeSet<i64> = changes.iter().map(key).collect();
    assert_eq!((changes.len(), keys), (3, BTreeSet::from([10, 110, 120])), "{strategy}");
    let expected: &[&str] =
        if major < 15 { &[] } else { &["filters by operation", "published rows changed"] };
    assert_eq!(warnings(&run, "tu"), expected.iter().map(|&name| name.to_owned()).collect());
}

/// Tables are chosen by the names that the stream sends their rows under.
async fn chosen_by_name(gap: &Gap) {
    let d = &["d1", "d2", "a1"];
    for (publications, arguments, words) in [
        (
            &d[..],
            ["--table", "public.td1"],
            &["public.td1", "rows of public.td: use --table public.td"][..],
        ),
        (d, ["--exclude", "public.td1"], &["rows of public.td: use --exclude public.td"]),
        (
            &["d3"],
            ["--table", "public.td"],
            &["rows of public.td1, public.td2: use --table with each"],
        ),
        (&["d3"], ["--exclude", "public.td"], &["use --exclude with each of these"]),
        (
            &["a2"],
            ["--exclude", "public.tb"],
            &["no table is selected", "updates or deletes they publish"],
        ),
    ] {
        let run = run(gap, publications, &arguments).await;
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.stderr);
        for word in words {
            assert!(run.stderr.contains(word), "{arguments:?}: {}", run.stderr);
        }
    }
    let both = ["--table", "public.te", "--table", "public.te2"];
    let refused = run(gap, &[], &[&both[..], &["--exclude", "public.ta"]].concat()).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let run = run(gap, d, &["--exclude", "public.td"]).await;
    run.assert_completed();
    let events = run.events("events");
    assert!(!events.0.is_empty() && events.0.len() == events.of("ta").len(), "{events:?}");
}

async fn operations_and_levels_are_combined_as_by_the_slot() {
    let postgres = Postgres::find(None).unwrap();
    let major = postgres.major();
    let production = Production::start(&postgres, Options::default()).await.unwrap();
    production.sql(schema(major)).await.unwrap();
    let mut streams = Vec::new();
    let gap = Gap::own_over(production, async |production| {
        production.create_logical_slot("slot", "pgoutput").await.unwrap();
        for statement in GAP {
            production.sql(*statement).await.unwrap();
        }
        for case in CASES {
            let messages: Vec<(Vec<u8>,)> = production
                .rows(format!(
                    "select data from pg_logical_slot_peek_binary_changes(
                        'slot', null, null, 'proto_version', '1', 'publication_names', '{}')",
                    case.publications.join(",")
                ))
                .await
                .unwrap();
            let messages: Vec<Vec<u8>> = messages.into_iter().map(|(message,)| message).collect();
            streams.push(read_stream(&messages));
        }
    })
    .await;
    for (case, stream) in CASES.iter().zip(&streams) {
        for strategy in ["auto", "content", "full"] {
            check(&gap, major, case, stream, strategy).await;
        }
    }
    for strategy in ["auto", "content", "full"] {
        filter_of_updates(&gap, major, strategy).await;
    }
    chosen_by_name(&gap).await;
}

/// Without `--publication` all are one subscription: one that only truncates and comes or goes in
/// the gap changes no rows.
async fn a_publication_without_rows_that_comes_or_goes_changes_nothing() {
    let major = Postgres::find(None).unwrap().major();
    let over_900 = only(major, "id > 900");
    let cases = [
        ("", "create publication emptied for all tables with (publish = 'truncate');"),
        (
            "create publication emptied for all tables with (publish = 'truncate');",
            "drop publication emptied;",
        ),
    ];
    // Both gaps happen at the same time.
    let gaps = cases.map(async |(before, during)| {
        Gap::between(
            &format!(
                "create table tb (id int primary key, a int);
                 create table other (id int primary key);
                 create publication b1 for table tb{over_900};
                 insert into tb select i, i from generate_series(1, 1000) i; {before}"
            ),
            &format!(
                "{during} update tb set a = -1 where id in (10, 910);
                 delete from tb where id in (20, 920); insert into tb values (1050, 1);
                 insert into other values (1)"
            ),
        )
        .await
    });
    for gap in join_all(gaps).await {
        let run = run(&gap, &[], &[]).await;
        run.assert_completed();
        let events = run.events("events");
        let changes = events.changes(&Printer::of(&gap.head).await, &TableName::of("tb")).await;
        let keys: Vec<i64> = changes.iter().map(key).collect();
        let all = if major < 15 { 5 } else { 3 };
        assert_eq!((keys.len(), events.0.len()), (all, all), "{keys:?}");
        assert!(warnings(&run, "tb").is_empty());
    }
}

tests! {
    operations_and_levels_are_combined_as_by_the_slot: own_servers majors,
    a_publication_without_rows_that_comes_or_goes_changes_nothing: majors,
}
