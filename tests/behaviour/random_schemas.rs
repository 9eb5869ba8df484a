//! Random schemas, data and workloads: whatever was done in the gap, the events turn base into head,
//! through every sink and in both formats.
//!
//! A pair of restores costs seconds, so one case holds many tables. A failing case prints its seed:
//! run it again with `DELTACOMPARE_RANDOM_SEED=<seed>` (and fewer tables with
//! `DELTACOMPARE_RANDOM_TABLES`), more cases with `DELTACOMPARE_RANDOM_CASES`.

mod schema;
mod values;
mod workload;

use std::collections::BTreeMap;

use deltacompare_testbed::Server;
use futures_util::future::join_all;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::{
    Database, DebeziumEvents, Events, Gap, NetChange, State, TableName, USER_CASTS,
    assert_recovered, deltacompare,
};
use workload::Story;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

async fn whatever_happened_events_turn_base_into_head() {
    let seed = std::env::var("DELTACOMPARE_RANDOM_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    let tables = number("DELTACOMPARE_RANDOM_TABLES", 24) as usize;
    let mut cases = Vec::new();
    for seed in (seed..=u64::MAX).take(number("DELTACOMPARE_RANDOM_CASES", 2) as usize) {
        println!("DELTACOMPARE_RANDOM_SEED={seed} DELTACOMPARE_RANDOM_TABLES={tables}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let stories: Vec<Story> = (0..tables)
            .map(|number| workload::story(number).new_tree(&mut runner).unwrap().current())
            .collect();
        // With the casts, the keys of some types are compared without operators.
        cases.push((stories, seed % 2 == 0));
    }
    join_all(cases.iter().map(|(stories, user_casts)| check(stories, *user_casts))).await;
}

async fn check(stories: &[Story], user_casts: bool) {
    // Rows are told apart by where they lie, so that a seed always does the same: no autovacuum.
    let production = Database::new().await;
    assert_eq!(production.value::<String>("show autovacuum").await.unwrap(), "off");
    production.sql(schema::PRELUDE).await.unwrap();
    for story in stories {
        for statement in story.before() {
            production.sql(statement).await.unwrap();
        }
    }
    if user_casts {
        production.sql(USER_CASTS).await.unwrap();
        production.sql(schema::OPERATORS).await.unwrap();
    }
    production.sql("create publication random").await.unwrap();
    publish(&production, stories.iter().filter(|s| s.table.key.identifies())).await;
    let gap = Gap::over(production, async |production| {
        for story in stories {
            for statement in story.during() {
                production.sql(statement).await.unwrap();
            }
        }
        // PostgreSQL refuses updates of published tables that no identity tells apart.
        publish(production, stories.iter().filter(|s| !s.table.key.identifies())).await;
    })
    .await;

    let names: Vec<&TableName> = stories.iter().map(|story| &story.table.name).collect();
    recover_landing(&gap, &names).await;
    for strategy in ["content", "full"] {
        recover_debezium(&gap, &names, strategy).await;
    }
    let mut count = BTreeMap::new();
    for name in names {
        let base = State::of(&gap.base, name).await;
        for change in base.changes_to(&State::of(&gap.head, name).await) {
            let what = match change {
                NetChange::Insert(_) => "inserts",
                NetChange::Update { .. } => "updates",
                NetChange::Delete(_) => "deletes",
            };
            *count.entry(what).or_insert(0) += 1;
        }
    }
    println!("{count:?}");
    assert!(stories.len() < 10 || count.len() == 3, "nothing of a kind happened");
}

async fn publish(production: &Server, stories: impl Iterator<Item = &Story>) {
    for story in stories {
        let add = format!("alter publication random add table {}", story.table.name);
        production.sql(add).await.unwrap();
    }
}

/// With the strategy that each table allows best.
async fn recover_landing(gap: &Gap, tables: &[&TableName]) {
    let run = deltacompare(
        gap,
        &["run", "--sink", "ndjson:{dir}/events", "--sink", "delta-table", "--format", "landing"],
    )
    .run()
    .await;
    run.assert_completed();
    let file = run.events("events");
    let delta = Events::delta(&gap.head).await;
    for table in tables {
        assert_recovered(gap, table, &file).await;
    }
    assert_eq!(file.by_id().len(), file.0.len(), "an event was written twice");
    assert_eq!(delta.by_id().len(), delta.0.len());
    assert_eq!(file.by_id(), delta.by_id(), "the sinks have the same events, byte for byte");
    gap.head.sql("truncate deltacompare.delta").await.unwrap();
}

async fn recover_debezium(gap: &Gap, tables: &[&TableName], strategy: &str) {
    let run = deltacompare(
        gap,
        &[
            "run",
            "--sink",
            "ndjson:{dir}/events",
            "--sink",
            "delta-table",
            "--format",
            "debezium",
            "--strategy",
            strategy,
        ],
    )
    .run()
    .await;
    run.assert_completed();
    let file = DebeziumEvents::read(&run.file("events"));
    let delta = DebeziumEvents::delta(&gap.head).await;
    for table in tables {
        file.assert_recovered(&gap.base, &gap.head, table).await;
    }
    assert_eq!(file.lines(), delta.lines(), "the sinks have the same events, byte for byte");
    gap.head.sql("truncate deltacompare.delta").await.unwrap();
}

tests! {
    whatever_happened_events_turn_base_into_head: majors seconds(600),
}
