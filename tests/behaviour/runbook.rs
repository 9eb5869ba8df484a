//! The runbook's own queries, in its own order, on a server whose slot is lost: what they print proves
//! the gap.

use deltacompare_testbed::{Options, Postgres, Production};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::support::{Gap, deltacompare};

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// The statements of each block of SQL under the heading, without comments.
fn blocks(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = RUNBOOK.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    section
        .split("```sql\n")
        .skip(1)
        .map(|rest| {
            let code = rest.split_once("```").unwrap().0;
            let lines: Vec<&str> =
                code.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
            let statements = lines.join("\n");
            let statements = statements.split(';').map(str::trim).filter(|it| !it.is_empty());
            // A minute of the operator's, none of the test's.
            statements.map(|it| it.replace("pg_sleep(60)", "pg_sleep(0)")).collect()
        })
        .collect()
}

fn lsn(rows: &[PgRow], column: &str) -> String {
    let [row] = rows else { panic!("{} rows have {column}", rows.len()) };
    row.try_get_unchecked::<String, _>(column).unwrap()
}

#[tokio::test]
async fn what_its_queries_print_proves_the_gap() {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production
        .sql("create table t (id int primary key); create publication orders for table t")
        .await
        .unwrap();
    production.base_backup().await.unwrap();
    production.create_logical_slot("downstream", "pgoutput").await.unwrap();
    production.sql("insert into t values (1)").await.unwrap();
    let lost_moment = production.restore_point("lost").await.unwrap();
    assert!(!production.decode_messages("downstream", "orders").await.unwrap().is_empty());
    production.sql("insert into t values (2)").await.unwrap();

    let blocks = blocks("The bad day");
    assert_eq!(blocks.len(), 3, "{blocks:#?}");
    let mut session = production.connect().await.unwrap();
    let mut printed: Vec<Vec<PgRow>> = Vec::new();
    for statement in blocks.iter().flatten() {
        // By the simple protocol, as psql: every value comes as text.
        let rows = session.fetch_all(sqlx::raw_sql(AssertSqlSafe(statement.as_str()))).await;
        printed.push(rows.unwrap_or_else(|error| panic!("{statement}: {error}")));
    }
    let (lost, new) = (lsn(&printed[0], "lost"), lsn(&printed[3], "new_slot"));
    let restart = lsn(&printed[3], "restart");
    // Nothing that would wake up is on this server, and the slot's row says what it keeps.
    let [subscriptions, servers, extensions] = &printed[printed.len() - 3..] else { panic!() };
    assert!(subscriptions.is_empty() && servers.is_empty() && extensions.is_empty());
    let kept: String = printed[4][0].try_get_unchecked("kept").unwrap();
    assert!(kept.parse::<i64>().unwrap() >= 0, "{kept}");

    let back = production.restore_point("back").await.unwrap();
    let (base, head) =
        tokio::try_join!(production.restore(&lost_moment), production.restore(&back)).unwrap();
    let gap = Gap::of(base, head).await;
    let arguments = [
        "plan",
        "--json",
        "--publication",
        "orders",
        "--lost-at-lsn",
        &lost,
        "--new-slot-lsn",
        &new,
        "--new-slot-restart-lsn",
        &restart,
    ];
    let plan = deltacompare(&gap, &arguments).run().await;
    plan.assert_completed();
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["gap"]["verdict"], "proven", "{plan:#}");
}
