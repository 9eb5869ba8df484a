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

async fn base_out_of_heads_reach() {
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    let port = gap.base.port();
    let own = format!("host 127.0.0.1, port {port}, database shop, sslmode disable");
    for (arguments, words) in [
        (&["--fdw-port", "1"][..], &["port 1,", "--fdw-host and --fdw-port", "firewall"][..]),
        (&["--fdw-host", "nosuch.invalid"], &["host nosuch.invalid,", "--fdw-host"]),
        (&["--fdw-sslmode", "require"], &["sslmode require", "does not support SSL"]),
        (&["--fdw-sslmode", "verify-ca"], &["--fdw-sslrootcert"]),
    ] {
        assert_refused(&gap, run(&gap, arguments), words).await;
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
        let words = [own.as_str(), "pg_hba.conf", "firewall", "--fdw-host"];
        assert_refused(&gap, run(&gap, &[]), &words).await;
    }
    std::fs::write(&hba, everybody).unwrap();
    gap.base.sql("select pg_reload_conf()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Another way to the same server is fine.
    deltacompare(&gap, &["plan", "--fdw-host", "localhost"]).run().await.assert_completed();
}

tests! {
    servers_that_do_not_fit_together: own_servers,
    other_major_versions: own_servers,
    base_out_of_heads_reach: own_servers,
}
