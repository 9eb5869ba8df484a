//! What changed besides rows: tables, columns, types, keys, partitions and the publications
//! themselves. Each is named in the report, and what both sides have is compared: by name where
//! both have the name, else by what became of it.

mod columns;
mod publications;
mod tables;

use std::collections::BTreeSet;

use deltacompare_testbed::Postgres;
use futures_util::future::join_all;

use super::run;
use crate::support::{Database, Events, Gap, NetChange, Printer, State, TableName, printers};

/// What of a table is compared on one side: columns, from where, and which rows.
type Side = (&'static [&'static str], &'static str, &'static str);

struct Case {
    since: u32,
    publication: &'static str,
    before: &'static str,
    during: &'static str,
    /// On head.
    table: &'static str,
    /// What pairs rows; empty for a multiset.
    key: &'static [&'static str],
    /// `None`: base has nothing of it.
    base: Option<Side>,
    head: Side,
    /// Under `auto`; empty if it does not matter.
    strategy: &'static str,
    warnings: &'static [&'static str],
}

/// All rows of two columns.
const fn whole(from: &'static str) -> Side {
    (&["id", "a"], from, "true")
}

/// Most cases are like this one.
const CASE: Case = Case {
    since: 14,
    publication: "shop",
    before: "",
    during: "",
    table: "",
    key: &["id"],
    base: None,
    head: whole(""),
    strategy: "",
    warnings: &[],
};

fn cases(major: u32) -> impl Iterator<Item = &'static Case> {
    [tables::CASES, columns::CASES, publications::CASES]
        .into_iter()
        .flatten()
        .filter(move |case| case.since <= major)
}

const PRELUDE: &str = "
    create schema elsewhere;
    create publication shop for all tables with (publish_via_partition_root = true);
    create publication altered;
    create table member_removed (id int primary key);
    alter publication altered add table member_removed;
    insert into member_removed values (1);
    do $$ begin
      for i in 1..30 loop
        execute format('create table gone_%s (id int primary key)', i);
      end loop;
    end $$;
";

const GONE: &str = "
    alter publication altered drop table member_removed;
    delete from member_removed;
    do $$ begin
      for i in 1..30 loop
        execute format('drop table gone_%s', i);
      end loop;
    end $$;
";

impl Case {
    async fn state(&self, server: &Printer, (columns, from, filter): Side) -> State {
        let from = TableName::of(from).to_string();
        State::covered(server, self.key, columns, &from, filter).await
    }

    /// What must be sent, sorted.
    async fn expected(&self, gap: &Gap) -> Vec<NetChange> {
        let (on_base, on_head) = printers(gap).await;
        let base = match self.base {
            Some(side) => self.state(&on_base, side).await,
            None => State::keyed(self.key.iter().map(|&name| name.to_owned()).collect()),
        };
        base.changes_to(&self.state(&on_head, self.head).await)
    }

    /// What was sent, sorted. The values of these tables are numbers and texts.
    fn sent(&self, events: &Events) -> Vec<NetChange> {
        let key = State::keyed(self.key.iter().map(|&name| name.to_owned()).collect());
        let of = events.of_table(&TableName::of(self.table));
        let mut changes: Vec<NetChange> = of
            .iter()
            .map(|event| match event.op.as_str() {
                "I" => NetChange::Insert(event.after_row().unwrap()),
                "U" => {
                    let after = event.after_row().unwrap();
                    NetChange::Update { key: key.key_of(&after), after }
                }
                _ => NetChange::Delete(key.key_of(&event.before_row().unwrap())),
            })
            .collect();
        changes.sort();
        changes
    }
}

async fn check(gap: &Gap, publication: &str, strategy: &str, major: u32) {
    let run = run(gap, &[publication], &["--strategy", strategy]).await;
    let events = run.events("events");
    for case in cases(major).filter(|case| case.publication == publication) {
        let what = format!("{publication}, {strategy}: {}", case.table);
        let table = TableName::of(case.table);
        let report = run.table("report", &format!("{}.{}", table.schema, table.name));
        assert_eq!(case.sent(&events), case.expected(gap).await, "{what}: {report:#}");
        let warnings = report["warnings"].as_array().unwrap();
        let mut named: Vec<&str> = warnings
            .iter()
            .map(|warning| warning.as_str().unwrap().split_once(": ").unwrap().0)
            .collect();
        let mut expected = case.warnings.to_vec();
        named.sort_unstable();
        expected.sort_unstable();
        assert_eq!(named, expected, "{what}: {report:#}");
        if strategy == "auto" && !case.strategy.is_empty() {
            assert_eq!(report["strategy"], case.strategy, "{what}: {report:#}");
        }
    }
    let report = run.report("report");
    let warnings: BTreeSet<&str> =
        report["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let told = |name: &str| {
        let told: Vec<&&str> = warnings.iter().filter(|w| w.starts_with(name)).collect();
        assert_eq!(told.len(), 1, "{publication}: {name}: {warnings:?}");
        told[0].to_string()
    };
    match publication {
        "shop" => {
            // Thirty tables and a partition, one sentence.
            let dropped = told("table dropped: ");
            assert!(dropped.contains("30 tables"), "{dropped}");
            assert!(dropped.ends_with("and 20 more"), "{dropped}");
            let generated = run.table("report", "public.generated_key")["warnings"].to_string();
            for words in ["it has one", "\\\"id\\\"", "a generated column"] {
                assert!(generated.contains(words), "{generated}");
            }
            let attached = told("no longer published: ");
            assert!(
                attached.contains("1 table") && attached.contains("public.alone"),
                "{attached}"
            );
        }
        "altered" => {
            let removed = told("no longer published: ");
            assert!(removed.contains("public.member_removed"), "{removed}");
            assert!(events.of("member_removed").is_empty());
        }
        _ => {}
    }
}

async fn drift_is_named_and_bridged() {
    let major = Postgres::find(None).unwrap().major();
    let production = Database::new().await;
    production.sql(PRELUDE).await.unwrap();
    for case in cases(major) {
        production.sql(case.before).await.unwrap();
    }
    let gap = Gap::over(production, async |production| {
        for case in cases(major) {
            // A label is of use only once its transaction has ended.
            for statement in case.during.split(';').filter(|statement| !statement.trim().is_empty())
            {
                production.sql(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:#}"));
            }
        }
        production.sql(GONE).await.unwrap();
    })
    .await;
    let runs = ["shop", "altered"].into_iter().flat_map(|publication| {
        ["auto", "content", "full"].map(|strategy| (publication, strategy))
    });
    let runs = runs.chain([("operations", "auto")]);
    join_all(runs.map(|(publication, strategy)| check(&gap, publication, strategy, major))).await;
}

tests! {
    drift_is_named_and_bridged: seconds(600),
}
