//! Results are looked at a second time: what a restore hides from the first look is told.

use std::fs;

use deltacompare_testbed::{Options, Postgres, Production, Server, StopMode};

use crate::support::{Gap, Program, Run, assert_events_turn_base_into_head, deltacompare};

fn program(gap: &Gap, more: &[&str]) -> Program {
    let mut arguments = vec!["run", "--format", "landing", "--sink", "ndjson:{dir}/events"];
    arguments.extend(["--report", "{dir}/report", "--range-blocks", "16"]);
    arguments.extend(more);
    deltacompare(gap, &arguments)
}

/// Tables that are compared by row version, keyed and not, and a few changes.
async fn gap() -> Gap {
    // Tampering breaks the checksums of pages, as a careful hand would not.
    let conf = vec!["ignore_checksum_failure = on".to_owned()];
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options { conf, ..Options::default() })
            .await
            .unwrap();
    for table in ["keyed", "keyless", "sound"] {
        let key = if table == "keyless" { "" } else { "primary key" };
        production
            .sql(format!(
                "create table {table} (id int {key}, v text);
                 alter table {table} replica identity full;
                 insert into {table}
                   select i, '{table}-' || lpad(i::text, 6, '0') from generate_series(1, 20000) i"
            ))
            .await
            .unwrap();
    }
    production.sql("create publication shop for all tables").await.unwrap();
    Gap::own_after(
        production,
        "update keyed set v = 'new' where id % 5000 = 0;
         update keyless set v = 'new' where id % 5000 = 0;
         update sound set v = 'new' where id % 5000 = 0",
    )
    .await
}

/// Changes a row's bytes in its file, where nothing is counted and no transaction id is spent.
async fn tamper(server: &Server, table: &str, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let file: String =
        server.value(format!("select pg_relation_filepath('{table}')")).await.unwrap();
    server.stop(StopMode::Fast).await.unwrap();
    let file = server.data_dir().join(file);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(&file, bytes).unwrap();
    server.start().await.unwrap();
}

fn assert_failed(run: &Run, table: &str) {
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let found = run.table("report", &format!("public.{table}"));
    assert_eq!(found["strategy"], "row-versions");
    assert_eq!(found["state"], "failed", "{table}");
    let error = found["error"].as_str().unwrap();
    assert!(error.contains("verification failed"), "{error}");
    assert!(error.contains("--strategy"), "{error}");
}

async fn a_restore_that_was_tampered_with_is_found_out_by_sampling() {
    let gap = gap().await;
    let sound = program(&gap, &["--verify", "sample"]).run().await;
    sound.assert_completed();
    let tables = ["keyed", "keyless", "sound"];
    assert_events_turn_base_into_head(&gap, &tables, &sound.events("events")).await;

    for table in ["keyed", "keyless"] {
        tamper(&gap.base, table, &format!("{table}-012345"), &format!("{table}-o12345")).await;
        let row = format!("select ctid::text || ' ' || xmin::text from {table} where id = 12345");
        let (on_base, on_head): (String, String) =
            tokio::try_join!(gap.base.value(row.as_str()), gap.head.value(row.as_str())).unwrap();
        assert_eq!(on_base, on_head, "the trap is not set");
    }
    // Row versions alone say nothing of it.
    let blind = program(&gap, &["--verify", "none"]).run().await;
    blind.assert_completed();
    for table in tables {
        assert_eq!(blind.table("report", &format!("public.{table}"))["strategy"], "row-versions");
        assert_eq!(blind.counts("report", &format!("public.{table}")).1 % 4, 0);
    }
    for verify in
        [["--verify", "sample", "--sample-percent", "100"].as_slice(), &["--verify", "full"]]
    {
        let run = program(&gap, verify).run().await;
        assert_failed(&run, "keyed");
        assert_failed(&run, "keyless");
        assert_eq!(run.table("report", "public.sound")["state"], "completed");
    }
    let run = program(&gap, &["--strategy", "content"]).run().await;
    run.assert_completed();
    assert_events_turn_base_into_head(&gap, &tables, &run.events("events")).await;
    assert_eq!(run.counts("report", "public.keyed"), (0, 5, 0));
}

tests! {
    a_restore_that_was_tampered_with_is_found_out_by_sampling: own_servers,
}
