//! Row versions are compared only where equal place and xmin prove equal rows; whatever breaks that
//! is seen and falls to reading contents, and whatever does not break it is not mistaken for it.

mod disturbed;
mod keys;
mod partitions;
mod plans;
mod ranges;
mod undisturbed;
mod unproved;
mod wraparound;

use deltacompare_testbed::{Options, Postgres, Production, Server};

use crate::support::{
    Database, Events, Gap, Program, Run, assert_events_turn_base_into_head, deltacompare, run_by,
};

/// A table with what happens to it before and in the gap, statement by statement, and how it must
/// be diffed. Its name stands for itself in the statements.
struct Case {
    table: &'static str,
    before: &'static [&'static str],
    during: &'static [&'static str],
    strategy: &'static str,
    /// Part of the report's reason.
    reason: &'static str,
    /// Changes that must come out; `None` if the judge alone may decide.
    changes: Option<(u64, u64, u64)>,
}

/// Runs all cases in one pair of restores.
async fn gap_of(cases: &[Case]) -> Gap {
    let production = Database::new().await;
    all(&production, cases.iter().flat_map(|case| case.before)).await;
    let during = cases.iter().flat_map(|case| case.during);
    Gap::over(production, async |production| all(production, during).await).await
}

/// The same on servers of its own.
async fn own_gap_of(options: Options, cases: &[Case]) -> Gap {
    let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
    all(&production, cases.iter().flat_map(|case| case.before)).await;
    let during = cases.iter().flat_map(|case| case.during);
    Gap::own_over(production, async |production| all(production, during).await).await
}

/// Runs statements one by one.
async fn all(server: &Server, statements: impl Iterator<Item = &&'static str>) {
    for statement in statements {
        server.sql(*statement).await.unwrap();
    }
}

/// `deltacompare run` with landing events, a report, and `full` as the second judge.
fn program(gap: &Gap, strategy: &str, more: &[&str]) -> Program {
    let mut more = more.to_vec();
    if !more.contains(&"--verify") {
        more.extend(["--verify", "full"]);
    }
    run_by(gap, strategy, &more)
}

/// Every case comes out right and was diffed as it says.
async fn assert_cases(gap: &Gap, run: &Run, cases: &[Case]) {
    let report = run.report("report");
    let mut wrong = Vec::new();
    for case in cases {
        let found = run.table("report", &format!("public.{}", case.table));
        let reason = found["strategy_reason"].as_str().unwrap();
        if found["strategy"] != case.strategy || !reason.contains(case.reason) {
            wrong.push(format!(
                "{}: {} because {reason}, not {} because {}",
                case.table, found["strategy"], case.strategy, case.reason
            ));
        }
        if found["state"] != "completed" {
            wrong.push(format!("{}: {}", case.table, found["error"]));
        }
        let counts = run.counts("report", &format!("public.{}", case.table));
        if case.changes.is_some_and(|changes| changes != counts) {
            wrong.push(format!("{}: {counts:?}, not {:?}", case.table, case.changes));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", run.stderr);
    run.assert_completed();
    assert_eq!(report["state"], "completed", "{report:#}");
    let tables: Vec<&str> = cases.iter().map(|case| case.table).collect();
    assert_events_turn_base_into_head(gap, &tables, &run.events("events")).await;
}

/// The same events, whatever the strategy, but for their recovery and their time.
fn assert_same_changes(runs: &[Run]) {
    let changes = |run: &Run| {
        let Events(events) = run.events("events");
        let mut changes: Vec<String> = events
            .into_iter()
            .map(|event| {
                format!(
                    "{} {} {:?} {:?} {:?}",
                    event.op, event.table, event.key, event.before, event.after
                )
            })
            .collect();
        changes.sort();
        changes
    };
    let first = changes(&runs[0]);
    for run in &runs[1..] {
        assert_eq!(changes(run), first);
    }
}

tests! {
    [disturbed, keys, partitions, plans, ranges, undisturbed, unproved, wraparound]
}
