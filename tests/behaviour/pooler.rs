//! A connection pooler in front of a restore is found before anything is changed.

use deltacompare::postgres::SESSION_SETTINGS;
use deltacompare_testbed::{PgBouncer, PoolMode, PoolerOptions, Role, Server};

use crate::support::{Fingerprint, Gap, deltacompare, leftovers};

const SCHEMA: &str = r#"
    create table t (id int primary key, v bytea, f float8, d interval);
    do $$ begin
      execute format('alter database %I set bytea_output = escape', current_database());
    end $$;
    insert into t select i, decode(md5(i::text), 'hex'), i / 3.0, i * interval '1 h'
      from generate_series(1, 100) i;
    create publication p for table t;
"#;

const GAP: &str = "update t set f = f * 2 where id <= 5";

/// Gives every session of the role our settings, so that one of the pooler looks like one of ours.
async fn pin(server: &Server) {
    let settings = SESSION_SETTINGS.iter().map(|(name, value)| {
        format!(
            "execute format('alter role {} in database %I set {name} = %L', current_database(), \
             '{value}');",
            Role::Admin.name()
        )
    });
    let settings: Vec<String> = settings.collect();
    server.sql(format!("do $$ begin {} end $$", settings.join(" "))).await.unwrap();
}

async fn assert_unchanged(gap: &Gap, before: &(Fingerprint, Fingerprint)) {
    let after = Fingerprint::of_both(gap).await;
    before.0.assert_same(&after.0, "base");
    before.1.assert_same(&after.1, "head");
}

async fn a_pooler_in_front_is_refused() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let mut before = Fingerprint::of_both(&gap).await;
    let run = ["run", "--sink", "delta-table"];
    let usual = |mode| PoolerOptions { mode, ..PoolerOptions::default() };
    let strict = PoolerOptions { ignore_options: false, ..PoolerOptions::default() };
    for (options, why) in [
        (usual(PoolMode::Session), "are not in force"),
        (usual(PoolMode::Transaction), "are not in force"),
        (strict, "unsupported startup parameter"),
        (usual(PoolMode::Transaction), "another backend"),
    ] {
        if why == "another backend" {
            assert_unchanged(&gap, &before).await;
            tokio::join!(pin(&gap.base), pin(&gap.head));
            before = Fingerprint::of_both(&gap).await;
        }
        for (server, side, variable) in
            [(&gap.base, "base", "DELTACOMPARE_BASE"), (&gap.head, "head", "DELTACOMPARE_HEAD")]
        {
            let pooler = PgBouncer::before(server, &options).unwrap();
            let url = pooler.url(server, Role::Admin);
            for arguments in
                [&run[..], &["plan"], &["cleanup"], &["record", "--file", "{dir}/record"]]
            {
                let run = deltacompare(&gap, arguments).env(variable, &url).run().await;
                assert_eq!(run.code, Some(2), "{arguments:?} {options:?}: {}", run.stderr);
                let port = format!("127.0.0.1:{}", pooler.port());
                for word in [side, &port, why, "PgBouncer", "5432, not 6432"] {
                    assert!(run.stderr.contains(word), "{word}: {arguments:?}: {}", run.stderr);
                }
            }
        }
    }
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    assert_unchanged(&gap, &before).await;
    // Without one, it is as always.
    deltacompare(&gap, &run).run().await.assert_completed();
}

async fn a_pooler_between_head_and_base_is_refused() {
    let gap = Gap::between(SCHEMA, GAP).await;
    // One that asks base for each role's password does not know the role that head logs in as.
    for (mode, one_user, why) in [
        (PoolMode::Session, false, "no such user"),
        (PoolMode::Transaction, false, "no such user"),
        (PoolMode::Session, true, "bytea_output"),
        (PoolMode::Transaction, true, "bytea_output"),
    ] {
        let options = PoolerOptions { mode, one_user, ..PoolerOptions::default() };
        let pooler = PgBouncer::before(&gap.base, &options).unwrap();
        let port = pooler.port().to_string();
        let fdw = format!("port={port}");
        let arguments = ["run", "--sink", "delta-table", "--strategy", "full", "--fdw", &fdw];
        // postgres_fdw lets nobody else log in where no password is asked for.
        let role = if one_user { Role::Superuser } else { Role::Admin };
        let program = deltacompare(&gap, &arguments).env("DELTACOMPARE_HEAD", &gap.head.url(role));
        let run = program.run().await;
        assert_eq!(run.code, Some(2), "{mode:?}: {}", run.stderr);
        for word in [why, "pooler", "--fdw port=", &port, "5432, not 6432"] {
            assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
        }
        // It keeps the session that head had.
        drop(pooler);
        assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    }
}

tests! {
    a_pooler_in_front_is_refused,
    a_pooler_between_head_and_base_is_refused,
}
