//! A statement that nobody waits for any more does not go on on the server.

use std::time::Duration;

use deltacompare::postgres::{self, Side};
use deltacompare_testbed::{Role, Server};

use crate::support::{Gap, deltacompare, hold_the_sink, until, waiting_for_the_sink};

const SCHEMA: &str = "create table t (id int primary key); insert into t values (1);
                      create publication p for table t;";

/// What sessions of the program are doing in this database, but waiting for their client.
async fn at_work(server: &Server) -> Vec<String> {
    let statements: Vec<(String,)> = server
        .rows(
            "select query from pg_stat_activity
              where datname = current_database() and application_name like 'deltacompare%'
                and application_name <> 'deltacompare gate' and state <> 'idle'",
        )
        .await
        .unwrap();
    statements.into_iter().map(|(statement,)| statement).collect()
}

/// Whoever waits for an answer goes away.
async fn a_statement_ends_with_its_caller() {
    let gap = Gap::between(SCHEMA, "insert into t values (2)").await;
    let ours = postgres::Server::parse(Side::Head, &gap.head.url(Role::Admin), None).unwrap();
    let one = ours.connect("deltacompare verify").await.unwrap();
    let other = ours.connect("deltacompare verify").await.unwrap();
    let waiting = one.query_one::<String>("select 'slept' from pg_sleep(600)", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(500), waiting).await.is_err());
    let waiting = other.query_one::<i64>("select count(*) from pg_sleep(600)", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(500), waiting).await.is_err());
    assert_eq!(at_work(&gap.head).await.len(), 2);
    drop(one);
    other.close().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(at_work(&gap.head).await, Vec::<String>::new());
}

/// A run is told to stop while it waits for the delta table.
async fn a_run_that_stops_leaves_no_statement() {
    let gap = Gap::between(SCHEMA, "insert into t values (2)").await;
    let arguments = ["run", "--sink", "delta-table"];
    // The delta table must be there to be held.
    deltacompare(&gap, &arguments).run().await.assert_completed();
    for signal in ["-INT", "-TERM"] {
        let held = hold_the_sink(&gap).await;
        let mut program = deltacompare(&gap, &arguments);
        let mut child = program.spawn();
        until(&gap, &waiting_for_the_sink(1)).await;
        let process = child.id().unwrap().to_string();
        std::process::Command::new("kill").args([signal, &process]).status().unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(130));
        tokio::time::sleep(Duration::from_secs(2)).await;
        for server in [&gap.base, &gap.head] {
            assert_eq!(at_work(server).await, Vec::<String>::new());
        }
        drop(held);
    }
}

tests! {
    a_statement_ends_with_its_caller,
    a_run_that_stops_leaves_no_statement,
}
