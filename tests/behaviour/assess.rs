//! What is said of production before anything is restored: which slots are lost, how long the others
//! last, what is missing. Nothing is changed for it.

use deltacompare_testbed::{Options, Postgres, Production, Role, Server};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{Fingerprint, url};

/// `deltacompare assess` as a role: code, standard output, standard error.
async fn assess(url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_deltacompare"))
        .args(["assess", "--watch-seconds", "1"])
        .args(arguments)
        .env("DELTACOMPARE_PRODUCTION", url)
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn as_json(server: &Server, arguments: &[&str]) -> Value {
    let all = [&["--json"], arguments].concat();
    let (code, stdout, stderr) = assess(&server.url(Role::Superuser), &all).await;
    // A slot is lost.
    assert_eq!(code, Some(1), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let list = list.as_array().unwrap();
    list.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name} in {list:#?}"))
}

/// A production with a slot that is lost, one that nobody reads, one of another database, and a
/// publication that nobody reads.
async fn production() -> Production {
    let conf = ["max_slot_wal_keep_size = '4MB'", "max_wal_size = '4MB'"];
    let conf = conf.map(str::to_owned).to_vec();
    let options = Options { conf, wal_segment_mb: 1, ..Options::default() };
    let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
    production
        .sql(
            "create table t (id int primary key, v text);
             create table log (line text);
             create table leaf (id int primary key) partition by range (id);
             create table leaf_1 partition of leaf for values from (0) to (10);
             insert into t select i, repeat('x', 100) from generate_series(1, 2000) i;
             create publication orders for table t, log;
             create publication rooted for table leaf with (publish_via_partition_root = true)",
        )
        .await
        .unwrap();
    production.sql("select pg_create_logical_replication_slot('gone', 'pgoutput')").await.unwrap();
    // More WAL than a slot may keep, and a checkpoint that removes it.
    for _ in 0..8 {
        production.sql("update t set v = v || 'y'; select pg_switch_wal()").await.unwrap();
    }
    production.sql("checkpoint").await.unwrap();
    production.sql("analyze").await.unwrap();
    production.sql("create database second").await.unwrap();
    let second = production.in_database("second");
    second
        .sql("create table s (id int primary key); create publication p for table s")
        .await
        .unwrap();
    second.sql("select pg_create_logical_replication_slot('waits', 'pgoutput')").await.unwrap();
    production.sql("create database nothing").await.unwrap();
    production
}

async fn every_database_and_every_slot_is_one_answer() {
    let production = production().await;
    let before = Fingerprint::of(&production).await;
    let found = as_json(&production, &["--lost-at", "2026-01-31T09:30:00Z"]).await;
    before.assert_same(&Fingerprint::of(&production).await, "production");

    let gone = named(&found["slots"], "gone");
    assert_eq!((&gone["state"], &gone["database"]), (&"lost".into(), &"shop".into()), "{found:#}");
    assert!(gone["confirmed_flush_lsn"].as_str().unwrap().contains('/'), "{gone:#}");
    assert_eq!(found["slots"][0]["name"], "gone", "the worst comes first");
    let waits = named(&found["slots"], "waits");
    // Less than 4 MB are left, whatever the rate is.
    assert!(["idle", "at_risk"].contains(&waits["state"].as_str().unwrap()), "{waits:#}");
    assert!(waits["hours_left"].as_f64().unwrap() >= 0.0, "{waits:#}");
    assert_eq!(waits["survives_failover"], false);

    let databases: Vec<&str> = found["databases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|database| database["name"].as_str().unwrap())
        .collect();
    assert_eq!(databases, ["second", "shop"]);
    let shop = named(&found["databases"], "shop");
    assert_eq!(shop["publications"], serde_json::json!(["orders", "rooted"]));
    assert_eq!((&shop["tables"], &shop["without_key"]), (&3.into(), &1.into()), "{shop:#}");
    assert!(shop["table_bytes"].as_u64().unwrap() > 100_000, "{shop:#}");
    assert_eq!(shop["slots"], serde_json::json!(["gone"]));

    assert!(found["wal"]["bytes_a_second_on_average"].as_f64().unwrap() > 0.0);
    assert_eq!(found["free_bytes"], Value::Null);
    assert_eq!(found["loss"]["restorable_until"], "2026-02-07T09:30:00Z");
    let requirements = found["requirements"].as_array().unwrap();
    assert!(
        requirements.len() >= 8 && requirements.iter().all(|it| it["met"] == true),
        "{found:#}"
    );
}

/// A scheduler's alert needs nothing but the exit code.
async fn a_slot_that_is_gone_is_missed() {
    let options = Options::default();
    let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
    production
        .sql("create table t (id int primary key); create publication p for table t")
        .await
        .unwrap();
    production.create_logical_slot("downstream", "pgoutput").await.unwrap();
    let admin = production.url(Role::Superuser);
    let (code, stdout, stderr) = assess(&admin, &["--slot", "downstream"]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    production.sql("select pg_drop_replication_slot('downstream')").await.unwrap();
    let (code, stdout, stderr) = assess(&admin, &["--slot", "downstream"]).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("slot downstream: there is no such slot"), "{stdout}");
    let (code, stdout, stderr) = assess(&admin, &[]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("slots: none"), "{stdout}");
}

/// On Azure nothing but the disk limits how long a slot lasts.
async fn a_full_disk_is_foreseen() {
    let production = production().await;
    production.sql("alter system set max_slot_wal_keep_size = -1").await.unwrap();
    production.sql("select pg_reload_conf()").await.unwrap();
    let hours = async |gib: &str| {
        let found = as_json(&production, &["--disk-gib", gib]).await;
        let left = found["free_bytes"].as_u64().unwrap();
        (left, named(&found["slots"], "waits")["hours_left"].as_f64().unwrap())
    };
    // Read-only below 5 GiB.
    let (left, none) = hours("5").await;
    assert_eq!((left, none), (0, 0.0));
    let ((less, sooner), (more, later)) = (hours("100").await, hours("1000").await);
    assert!(less < more && sooner < later, "{less} {more} {sooner} {later}");
}

async fn what_is_missing_is_named_with_the_statement() {
    let production = production().await;
    production.sql("create role looker login password 'pw'").await.unwrap();
    production.sql("alter system set track_counts = off").await.unwrap();
    production.sql("select pg_reload_conf()").await.unwrap();
    let (code, stdout, stderr) = assess(&url(&production, "looker", "pw"), &[]).await;
    assert_eq!(code, Some(1), "{stderr}");
    for words in [
        "missing: looker has REPLICATION",
        "alter role looker replication",
        "alter role looker createrole",
        "missing: track_counts is on",
        "missing: looker may read the 3 published tables of shop",
        "grant pg_read_all_data to looker",
        "slot gone: it is invalidated",
        "ok: wal_level is logical",
    ] {
        assert!(stdout.contains(words), "no {words:?} in {stdout}");
    }
    // What the role may not see is said, with the grant that mends it.
    let (code, _, stderr) = assess(&url(&production, "looker", "pw"), &["--disk-gib", "9"]).await;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("grant pg_monitor"), "{stderr}");
}

/// No password is taken from where every user of the machine sees it, and none is repeated.
async fn passwords_stay_out_of_sight() {
    let output = Command::new(env!("CARGO_BIN_EXE_deltacompare"))
        .args(["assess", "postgres://me:s3cret@127.0.0.1:1/shop"])
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("DELTACOMPARE_PRODUCTION_PASSWORD"), "{stderr}");
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

tests! {
    every_database_and_every_slot_is_one_answer: own_servers majors,
    a_slot_that_is_gone_is_missed: own_servers,
    a_full_disk_is_foreseen: own_servers,
    what_is_missing_is_named_with_the_statement: own_servers,
    passwords_stay_out_of_sight: own_servers,
}
