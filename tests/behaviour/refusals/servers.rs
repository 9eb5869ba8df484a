//! Servers that do not fit together, or do not reach each other.

use std::time::Duration;

use deltacompare_testbed::{Options, Postgres, Production, Role, StopMode};

use super::{GAP, SHOP, assert_refused, assert_refused_unseen, run, run_with};
use crate::support::{Fingerprint, Gap, deltacompare, skip, url};

async fn servers_that_do_not_fit_together() {
    let roles = "create role plain login createrole password 'pw';
                 grant pg_read_all_data to plain;";
    let gap = Gap::own(Options::default(), &format!("{SHOP}{roles}"), GAP).await;
    let (base, head) = (gap.base.url(Role::Admin), gap.head.url(Role::Admin));

    let same = ["base and head are the same server", "the restore to the moment"];
    assert_refused(&gap, run_with(&gap, "BASE", &head, &[]), &same).await;
    let by_name = head.replace("127.0.0.1", "localhost");
    assert_refused(&gap, run_with(&gap, "BASE", &by_name, &[]), &same).await;

    let swapped = ["swapped", "exchange --base and --head"];
    let program = run(&gap, &[]).env("DELTACOMPARE_BASE", &head).env("DELTACOMPARE_HEAD", &base);
    assert_refused(&gap, program, &swapped).await;
    // Without REPLICATION the histories cannot be read; the transaction counters tell.
    let program = run(&gap, &[])
        .env("DELTACOMPARE_BASE", &url(&gap.head, "plain", "pw"))
        .env("DELTACOMPARE_HEAD", &url(&gap.base, "plain", "pw"));
    assert_refused(&gap, program, &swapped).await;

    gap.head.stop(StopMode::Fast).await.unwrap();
    let head_address = format!("127.0.0.1:{}", gap.head.port());
    let unreachable = ["cannot log in to head", head_address.as_str(), "firewall"];
    assert_refused_unseen(run(&gap, &[]), &unreachable).await;

    // Head as a standby, first one that may be read, then one that may not.
    let conf = gap.head.data_dir().join("postgresql.conf");
    let standby = std::fs::read_to_string(&conf).unwrap()
        + "\nrecovery_target_name = ''\nrecovery_target_timeline = 'latest'\n";
    std::fs::write(gap.head.data_dir().join("standby.signal"), "").unwrap();
    for (hot_standby, word) in [("on", "head is still in recovery"), ("off", "wait until it is up")]
    {
        std::fs::write(&conf, format!("{standby}hot_standby = {hot_standby}\n")).unwrap();
        // It never becomes ready for writing.
        let _ = tokio::time::timeout(Duration::from_secs(2), gap.head.start()).await;
        let run = assert_refused_unseen(run(&gap, &[]), &[word, "has ended"]).await;
        assert!(!run.stderr.contains("firewall"), "{}", run.stderr);
        gap.head.stop(StopMode::Fast).await.unwrap();
    }
}

async fn other_major_versions() {
    let majors = Postgres::available();
    let (Some(one), Some(other)) = (majors.first(), majors.get(1)) else {
        skip("only one major version of PostgreSQL is installed: scripts/setup 16");
        return;
    };
    let base = Production::start(one, Options::default()).await.unwrap();
    let head = Production::start(other, Options::default()).await.unwrap();
    base.sql(SHOP).await.unwrap();
    head.sql(SHOP).await.unwrap();
    let before = (Fingerprint::of(&base).await, Fingerprint::of(&head).await);
    let folder = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_deltacompare"))
        .args(["run", "--sink", &format!("ndjson:{}/events", folder.path().display())])
        .env("DELTACOMPARE_BASE", base.url(Role::Admin))
        .env("DELTACOMPARE_HEAD", head.url(Role::Admin))
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let sentence = format!("base runs PostgreSQL {} and head runs {}", one.major(), other.major());
    assert!(stderr.contains(&sentence) && stderr.contains("restore both"), "{stderr}");
    before.0.assert_same(&Fingerprint::of(&base).await, "base");
    before.1.assert_same(&Fingerprint::of(&head).await, "head");
}

/// Production's own writes are not blamed on applications: a copy of its disk counts them, too.
async fn a_copy_of_a_disk_is_no_restore() {
    let postgres = Postgres::find(None).unwrap();
    let production = Production::start(&postgres, Options::default()).await.unwrap();
    production.sql(SHOP).await.unwrap();
    production.base_backup().await.unwrap();
    let lost = production.restore_point("lost").await.unwrap();
    let base = production.restore(&lost).await.unwrap();
    production.sql(GAP).await.unwrap();
    let gap = Gap::of(base, production.in_database(production.database())).await;
    let words = ["head is no point-in-time restore", "timeline 1", "production's own writes"];
    let refused = assert_refused(&gap, run(&gap, &[]), &words).await;
    for word in ["keep applications away", "base is no"] {
        assert!(!refused.stderr.contains(word), "{}", refused.stderr);
    }
}

const FORK: &str = "create or replace function pg_catalog.version() returns text
    language sql stable as $$ select 'PostgreSQL 15.4 (EnterpriseDB Advanced Server 15.4.0) on x' $$";

const NINETEEN: &str = "create or replace function pg_catalog.current_setting(text) returns text
    language sql stable as $$
      select case $1 when 'server_version_num' then '190000'
                     else pg_catalog.current_setting($1, false) end $$";

async fn versions_that_nobody_knows() {
    let gap = Gap::between(SHOP, GAP).await;
    let known: String = gap.head.value("select version()").await.unwrap();
    for server in [&gap.base, &gap.head] {
        server.sql(FORK).await.unwrap();
    }
    let words =
        ["base runs \"PostgreSQL 15.4 (EnterpriseDB", "head runs", "no released PostgreSQL"];
    assert_refused(&gap, run(&gap, &[]), &[&words[..], &["--accept unknown-version"]].concat())
        .await;
    let run = run(&gap, &["--accept", "unknown-version", "--strategy", "row-versions"]).run().await;
    run.assert_completed();
    let warnings = run.report("report")["warnings"].to_string();
    assert!(warnings.contains("row versions are not compared"), "{warnings}");
    for (table, counts) in [("public.customer", (100, 0, 0)), ("public.invoice", (0, 0, 3))] {
        assert_eq!(run.counts("report", table), counts);
        assert_eq!(run.table("report", table)["strategy"], "content");
    }
    for server in [&gap.base, &gap.head] {
        let known =
            FORK.replace("PostgreSQL 15.4 (EnterpriseDB Advanced Server 15.4.0) on x", &known);
        server.sql(known).await.unwrap();
    }
    self::run(&gap, &[]).run().await.assert_completed();
    for server in [&gap.base, &gap.head] {
        server.sql(NINETEEN).await.unwrap();
    }
    let words = ["head runs PostgreSQL 19, and 18 is the newest", "--accept unknown-version"];
    assert_refused(&gap, self::run(&gap, &[]), &words).await;
}

async fn base_out_of_heads_reach() {
    const FULL: [&str; 2] = ["--strategy", "full"];
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    let port = gap.base.port();
    let own = format!("host 127.0.0.1, port {port}, database shop, sslmode disable");
    for (arguments, words) in [
        (&["--fdw", "port=1"][..], &["port 1,", "--fdw host=…,port=…", "firewall"][..]),
        (&["--fdw", "host=nosuch.invalid"], &["host nosuch.invalid,", "--fdw host="]),
        (&["--fdw", "sslmode=require"], &["sslmode require", "does not support SSL"]),
        (&["--fdw", "sslmode=verify-ca"], &["--fdw sslrootcert="]),
    ] {
        assert_refused(&gap, run(&gap, &[&FULL[..], arguments].concat()), words).await;
    }
    // Base lets us in but not the role of head.
    let hba = gap.base.data_dir().join("pg_hba.conf");
    let everybody = std::fs::read_to_string(&hba).unwrap();
    for rule in ["", "host all all all reject\n"] {
        let only_us = "local all all trust\n\
                       host all azure_admin all scram-sha-256\n\
                       host replication azure_admin all scram-sha-256\n";
        std::fs::write(&hba, format!("{only_us}{rule}")).unwrap();
        gap.base.sql("select pg_reload_conf()").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let words = [own.as_str(), "pg_hba.conf", "firewall", "--fdw host="];
        assert_refused(&gap, run(&gap, &FULL), &words).await;
    }
    std::fs::write(&hba, everybody).unwrap();
    gap.base.sql("select pg_reload_conf()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Another way to the same server is fine.
    deltacompare(&gap, &["plan", "--strategy", "full", "--fdw", "host=localhost"])
        .run()
        .await
        .assert_completed();
}

tests! {
    servers_that_do_not_fit_together: own_servers,
    other_major_versions: own_servers,
    a_copy_of_a_disk_is_no_restore: own_servers,
    versions_that_nobody_knows,
    base_out_of_heads_reach: own_servers,
}
