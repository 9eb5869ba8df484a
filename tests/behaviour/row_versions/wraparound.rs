//! Transaction ids have 32 bits: ages overflow past two billion, and numbers come again past four.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use deltacompare_testbed::{Connection, Role, StopMode};

use super::*;
use crate::support::skip;

/// PostgreSQL as npm has it comes without the tool for this.
fn postgres_with_resetwal() -> Option<Postgres> {
    let postgres = Postgres::find(None).unwrap();
    let has = postgres.bin().join("pg_resetwal").exists();
    if !has {
        skip(format!("{} has no pg_resetwal", postgres.bin().display()));
    }
    has.then_some(postgres)
}

/// Moves a cluster's next transaction id on, as years of work would, and freezes everything.
async fn move_on(production: &Production, postgres: &Postgres, epoch: u32, next: u32) {
    production.sql("checkpoint").await.unwrap();
    production.stop(StopMode::Fast).await.unwrap();
    let data = production.data_dir();
    let owner = fs::metadata(data).unwrap();
    // The commit log has two bits a transaction, a megatransaction a file.
    let segment = data.join(format!("pg_xact/{:04X}", next >> 20));
    if !segment.exists() {
        fs::write(&segment, vec![0; 262_144]).unwrap();
        chown(&segment, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let done = Command::new(postgres.bin().join("pg_resetwal"))
        .args(["-e", &epoch.to_string(), "-x", &next.to_string(), "-D"])
        .arg(data)
        .current_dir("/")
        .uid(owner.uid())
        .gid(owner.gid())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    production.start().await.unwrap();
    production
        .sql("update pg_database set datallowconn = true where datname = 'template0'")
        .await
        .unwrap();
    for database in ["template0", "template1", "postgres", production.database()] {
        let url = production
            .url(Role::Superuser)
            .replace(&format!("/{}?", production.database()), &format!("/{database}?"));
        let connection = Connection::open(&url).await.unwrap();
        connection.sql("vacuum freeze").await.unwrap();
        connection.close().await.unwrap();
    }
    production.sql("checkpoint").await.unwrap();
}

async fn transaction_ids_past_two_billion_and_past_the_wrap() {
    let Some(postgres) = postgres_with_resetwal() else { return };
    let production = Production::start(&postgres, Options::default()).await.unwrap();
    production
        .sql(
            "create table t (id int primary key, v text);
             create publication shop for all tables;
             insert into t select i, 'v' || i from generate_series(1, 500) i",
        )
        .await
        .unwrap();
    move_on(&production, &postgres, 0, 1_500_000_000).await;
    for (round, next) in
        [(1, Some(2_100_000_000)), (2, Some(3_000_000_000)), (3, Some(4_294_967_200)), (4, None)]
    {
        if let Some(next) = next {
            move_on(&production, &postgres, 0, next).await;
        }
        production
            .sql(format!(
                "insert into t select i, 'r' from generate_series({round}001, {round}500) i"
            ))
            .await
            .unwrap();
        production.base_backup().await.unwrap();
        let lost = production.restore_point("lost").await.unwrap();
        production
            .sql(format!(
                "update t set v = 'u{round}' where id % 50 = {round};
                 delete from t where id % 50 = 10 + {round}"
            ))
            .await
            .unwrap();
        // Each row with a transaction id of its own, over the wrap in round 3.
        production
            .sql(format!(
                "do $$ begin for i in 1..150 loop
                   begin insert into t values ({round}500 + i, 'own'); exception when others then raise;
                   end; end loop; end $$"
            ))
            .await
            .unwrap();
        production.sql("vacuum t").await.unwrap();
        production.sql(format!("update t set v = 'late' where id = {round}600")).await.unwrap();
        let back = production.restore_point("back").await.unwrap();
        let (base, head) =
            tokio::try_join!(production.restore(&lost), production.restore(&back)).unwrap();
        let epochs = "select pg_snapshot_xmax(pg_current_snapshot())::text::int8 >> 32";
        let on_base: i64 = base.value(epochs).await.unwrap();
        let on_head: i64 = head.value(epochs).await.unwrap();
        assert_eq!((on_base, on_head), (i64::from(round > 3), i64::from(round > 2)));
        let gap = Gap::of(base, head).await;
        let run = program(&gap, "auto", &[]).run().await;
        run.assert_completed();
        let found = run.table("report", "public.t");
        assert_eq!(found["strategy"], "row-versions", "{found:#}");
        assert_events_turn_base_into_head(&gap, &["t"], &run.events("events")).await;
        assert_eq!(found["inserts"], 150);
    }
}

/// After the wrap a transaction of the gap can have the number of one from long ago, and put a row
/// where that one's was.
async fn a_number_that_comes_again_is_not_taken_for_the_same_transaction() {
    const XMIN: &str = "select xmin::text::int8 from t where id = 1";
    const PLACES: &str = "select string_agg(ctid::text || xmin::text, ' ' order by ctid) from t";
    let Some(postgres) = postgres_with_resetwal() else { return };
    let production = Production::start(&postgres, Options::default()).await.unwrap();
    let create = "create table t (id int primary key, v text);
                  create publication shop for all tables";
    production.sql(create).await.unwrap();
    production.sql("insert into t select i, 'old' from generate_series(1, 50) i").await.unwrap();
    let xmin: i64 = production.value(XMIN).await.unwrap();
    for next in [1_500_000_000, 3_000_000_000] {
        move_on(&production, &postgres, 0, next).await;
    }
    move_on(&production, &postgres, 1, u32::try_from(xmin).unwrap() - 60).await;
    production.base_backup().await.unwrap();
    let lost = production.restore_point("lost").await.unwrap();
    production.sql("delete from t").await.unwrap();
    production.sql("vacuum (truncate false) t").await.unwrap();
    let next = "select pg_snapshot_xmax(pg_current_snapshot())::text::int8 & 4294967295";
    while production.value::<i64>(next).await.unwrap() < xmin {
        production.sql("select pg_current_xact_id()").await.unwrap();
    }
    let insert = "insert into t select i, case when i % 10 = 0 then 'new' else 'old' end
                    from generate_series(1, 50) i";
    production.sql(insert).await.unwrap();
    let back = production.restore_point("back").await.unwrap();
    let (base, head) =
        tokio::try_join!(production.restore(&lost), production.restore(&back)).unwrap();
    let on_base: String = base.value(PLACES).await.unwrap();
    assert_eq!(on_base, head.value::<String>(PLACES).await.unwrap(), "the trap is not set");
    let gap = Gap::of(base, head).await;
    let run = program(&gap, "auto", &[]).run().await;
    run.assert_completed();
    assert_eq!(run.table("report", "public.t")["strategy"], "row-versions");
    assert_eq!(run.counts("report", "public.t"), (0, 5, 0));
    assert_events_turn_base_into_head(&gap, &["t"], &run.events("events")).await;
}

tests! {
    transaction_ids_past_two_billion_and_past_the_wrap: own_servers seconds(300),
    a_number_that_comes_again_is_not_taken_for_the_same_transaction: own_servers seconds(300),
}
