//! Random publications over random tables, random changes of rows, and random changes of tables and
//! publications among them. A real slot decodes it all. Of a table that only its rows changed of, the
//! events are the stream's net effect, and no deviation is claimed; of every other, they turn what
//! base's publications cover into what head's do, and whatever the stream sent is covered.
//!
//! A failing case prints its seed: run it again with `DELTACOMPARE_RANDOM_SEED=<seed>`, more cases
//! with `DELTACOMPARE_RANDOM_CASES`.

mod coverage;
mod statement;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use deltacompare_testbed::{Options, Postgres, Production};
use futures_util::{StreamExt, stream};

use crate::support::{
    Gap, NetChange, Streamed, TableName, deltacompare, net_of_stream, read_stream,
};
use coverage::{Covered, Expected, Side};
use world::{Dice, Shape, World};

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap())
}

async fn events_are_what_the_slot_would_have_said() {
    let first = number("DELTACOMPARE_RANDOM_SEED").unwrap_or_else(rand::random);
    for seed in (first..=u64::MAX).take(number("DELTACOMPARE_RANDOM_CASES").unwrap_or(2) as usize) {
        println!("DELTACOMPARE_RANDOM_SEED={seed}");
        check(seed).await;
    }
}

/// What one slot reads, and what it said; nothing where it cannot decode that.
struct Subscription {
    /// Empty: all of them.
    publications: Vec<String>,
    stream: Result<Vec<Streamed>, String>,
}

async fn check(seed: u64) {
    let mut dice = Dice::of(seed);
    let postgres = Postgres::find(None).unwrap();
    let major = postgres.major();
    // Which rows lie where must not depend on when somebody tidied up.
    let conf = vec!["autovacuum = off".into()];
    let production =
        Production::start(&postgres, Options { conf, ..Options::default() }).await.unwrap();
    production.sql("create schema sold").await.unwrap();
    let mut world = World::new(major, [0, 2, 12][seed as usize % 3]);
    for _ in 0..6 + dice.below(4) {
        let sql = world.create_table(&mut dice);
        production.sql(sql).await.unwrap();
    }
    while world.publications.len() < 4 {
        let mut next = world.clone();
        let sql = next.create_publication(&mut dice);
        if production.sql(sql).await.is_ok() {
            world = next;
        } else {
            world.names = next.names;
        }
    }
    let mut subscriptions = Vec::new();
    let (mut done, mut refused) = (0, 0);
    let gap = Gap::own_over(production, async |production| {
        production.create_logical_slot("slot", "pgoutput").await.unwrap();
        for _ in 0..150 {
            let mut next = world.clone();
            let sql = transaction(&mut next, &mut dice);
            if std::env::var("DELTACOMPARE_RANDOM_SAY").is_ok() {
                println!("{sql};");
            }
            match production.sql(sql).await {
                Ok(()) => {
                    done += 1;
                    world = next;
                }
                Err(error) => {
                    refused += 1;
                    world.names = next.names;
                    if std::env::var("DELTACOMPARE_RANDOM_SAY").is_ok() {
                        println!("-- {}", error.root_cause());
                    }
                }
            }
        }
        let names: Vec<&String> = world.publications.iter().map(|p| &p.name).collect();
        let mut sets: BTreeSet<Vec<String>> =
            names.iter().map(|name| vec![(*name).clone()]).collect();
        for size in [2, 2, 2, 3, 3, 4] {
            let some: BTreeSet<String> = (0..size).map(|_| dice.pick(&names).clone()).collect();
            sets.insert(some.into_iter().collect());
        }
        // All of them.
        sets.insert(Vec::new());
        for publications in sets {
            let all: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
            let read = if publications.is_empty() { &all } else { &publications };
            // After an error, its session tells the client first and leaves the slot then.
            let free = "select not active from pg_replication_slots where slot_name = 'slot'";
            while !production.value::<bool>(free).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let said = production
                .rows(format!(
                    "select data from pg_logical_slot_peek_binary_changes(
                         'slot', null, null, 'proto_version', '1', 'publication_names', '{}')",
                    read.join(",")
                ))
                .await;
            let stream = said
                .map(|rows: Vec<(Vec<u8>,)>| {
                    read_stream(&rows.into_iter().map(|(message,)| message).collect::<Vec<_>>())
                })
                .map_err(|error| format!("{error:#}"));
            subscriptions.push(Subscription { publications, stream });
        }
    })
    .await;
    println!("{done} transactions, {refused} refused by PostgreSQL");
    assert!(done > refused, "most of it must happen");
    let mut checks = Vec::new();
    for subscription in &subscriptions {
        for strategy in ["auto", "content", "full"] {
            checks.push(check_one(&gap, &world, subscription, strategy));
        }
    }
    let compared: Vec<(usize, usize)> = stream::iter(checks).buffer_unordered(6).collect().await;
    let (tables, streamed): (Vec<usize>, Vec<usize>) = compared.into_iter().unzip();
    println!(
        "{} tables compared, {} of them with the stream",
        tables.iter().sum::<usize>(),
        streamed.iter().sum::<usize>()
    );
}

/// Some statements that are done together or not at all.
fn transaction(world: &mut World, dice: &mut Dice) -> String {
    if dice.chance(world.drift) {
        return match dice.below(10) {
            0..5 => statement::of_tables(world, dice),
            5 | 6 => {
                let before = statement::of_rows(world, dice);
                let change = statement::of_tables(world, dice);
                format!("{before}; {change}; {}", statement::of_rows(world, dice))
            }
            7 => {
                let created = world.create_table(dice);
                world.tables.last_mut().unwrap().drifted = true;
                created
            }
            8 if dice.chance(30) => {
                let created = world.create_publication(dice);
                world.publications.last_mut().unwrap().drifted = true;
                created
            }
            _ => world.alter_publication(dice),
        };
    }
    match dice.below(12) {
        0 => format!("vacuum full {}", world.tables[dice.below(world.tables.len())].sql()),
        1 => format!("begin; {}; rollback", statement::of_rows(world, dice)),
        2 => {
            let (kept, lost) = (statement::of_rows(world, dice), statement::of_rows(world, dice));
            format!("begin; {kept}; savepoint s; {lost}; rollback to s; commit")
        }
        _ => {
            let statements: Vec<String> =
                (0..1 + dice.below(3)).map(|_| statement::of_rows(world, dice)).collect();
            statements.join("; ")
        }
    }
}

/// Yields how many tables were compared, and how many of them with the stream.
async fn check_one(gap: &Gap, world: &World, of: &Subscription, strategy: &str) -> (usize, usize) {
    let what = format!("{:?}, {strategy}", of.publications);
    let base = Side::of(&gap.base, world.major, &of.publications).await;
    let head = Side::of(&gap.head, world.major, &of.publications).await;
    let mut arguments = vec![
        "run",
        "--format",
        "landing",
        "--before",
        "full",
        "--sink",
        "ndjson:{dir}/events",
        "--report",
        "{dir}/report",
        "--strategy",
        strategy,
    ];
    of.publications.iter().for_each(|name| arguments.extend(["--publication", name]));
    let run = deltacompare(gap, &arguments).run().await;
    let covered = head.covered.as_ref().unwrap();
    if covered.is_empty() {
        assert_eq!(run.code, Some(2), "{what}: {}", run.stderr);
        assert!(run.stderr.contains("no table is selected"), "{what}: {}", run.stderr);
        return (0, 0);
    }
    assert_eq!(run.code, Some(0), "{what}: {}{}", run.stdout, run.stderr);
    let events = run.events("events");
    let steady = match &of.publications[..] {
        [] => !world.dropped && !world.publications.iter().any(|p| p.drifted),
        names => !world.publications.iter().any(|p| p.drifted && names.contains(&p.name)),
    };
    let (mut sent, mut streamed) = (0, 0);
    for (table, Covered { all_operations, .. }) in covered {
        let what = format!("{what}, {table}");
        let report = run.table("report", &format!("{}.{}", table.schema, table.name));
        let expected = Expected::of(&base, &head, table).await;
        let (mut gone, mut come, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        let mut keys = BTreeSet::new();
        for event in events.of_table(table) {
            let (before, after) = (event.before_row(), event.after_row());
            if let Some(key) = &event.key {
                let key: Vec<String> = key.values().map(|value| value.to_string()).collect();
                assert!(keys.insert(key), "{what}: two events of one key: {event:?}");
            }
            gone.extend(before.clone());
            come.extend(after.clone());
            changes.push(expected.change(before, after));
            sent += 1;
        }
        expected.assert_changed_by(gone, come, &format!("{what}: {report:#}"));
        let drifted = world.tables.iter().any(|known| match known.shape {
            Shape::Partitioned(_) if table.name.starts_with("part") => known.drifted,
            // What happens to a parent's columns happens to its children's.
            Shape::Child(parent) if TableName::of(&known.sql()) == *table => {
                known.drifted || world.tables[parent].drifted
            }
            _ => known.drifted && TableName::of(&known.sql()) == *table,
        });
        if !steady || drifted {
            continue;
        }
        if let Ok(stream) = &of.stream {
            expected.assert_covers(stream, table, &what);
        }
        if !all_operations {
            continue;
        }
        let warnings = report["warnings"].to_string();
        let stated = ["filters by operation", "column lists differ", "no key"];
        let warned = stated.iter().any(|name| warnings.contains(&format!("\"{name}: ")));
        assert!(warned || warnings == "[]", "{what}: {warnings}");
        let stream = match &of.stream {
            Ok(stream) if !warned => stream,
            Ok(_) => continue,
            Err(error) => {
                assert!(error.contains("different column lists"), "{what}: {error}");
                continue;
            }
        };
        let (before, after) = expected.states();
        let net: Vec<NetChange> = net_of_stream(stream, table, &before);
        assert_eq!(net, before.changes_to(&after), "{what}: the stream is not the state");
        changes.sort();
        assert_eq!(changes, net, "{what}");
        streamed += 1;
    }
    assert_eq!(events.0.len(), sent, "{what}: events of other tables");
    (covered.len(), streamed)
}

tests! {
    events_are_what_the_slot_would_have_said: own_servers seconds(600),
}
