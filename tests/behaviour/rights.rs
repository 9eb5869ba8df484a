//! Who may run a recovery: Azure's administrator, and anybody with the few rights that it needs.
//! Afterwards nobody has more rights than before.

use deltacompare_testbed::{Options, Postgres, Production};

use crate::support::{Fingerprint, Gap, deltacompare, skip, url};

/// Two roles: one may grant what it may read of base's tables one by one, and owns nothing.
const SHOP: &str = r#"
    create role frugal_base login createrole password 'pw';
    create role frugal_head login password 'pw';
    create schema "Stock Room";
    create table customer (id int primary key, name text);
    create table "Stock Room"."It""em" (id int primary key, amount numeric);
    create table part (id int primary key, v text) partition by range (id);
    create table part_1 partition of part for values from (0) to (10);
    create table part_2 partition of part for values from (10) to (100);
    create table visit (page text);
    create table secret (id int primary key);
    alter table visit replica identity full;
    insert into customer select i, 'customer ' || i from generate_series(1, 20) i;
    insert into "Stock Room"."It""em" select i, i from generate_series(1, 20) i;
    insert into part select i, 'v' from generate_series(1, 20) i;
    insert into visit select 'page' from generate_series(1, 20) i;
    create publication shop
      for table customer, "Stock Room"."It""em", part, visit;
    grant create on database shop to frugal_head;
    grant usage on schema "Stock Room" to frugal_base with grant option;
    grant usage on schema "Stock Room" to frugal_head;
    grant usage on schema public to frugal_base with grant option;
    grant select on customer, "Stock Room"."It""em", part, part_1, part_2, visit
       to frugal_base with grant option;
    grant select on customer, "Stock Room"."It""em", part, part_1, part_2, visit to frugal_head;
"#;

const GAP: &str = r#"
    update customer set name = 'new' where id < 4;
    delete from "Stock Room"."It""em" where id < 3;
    insert into part values (50, 'new');
    update part set v = 'V' where id = 5;
    insert into visit values ('page'), ('other');
"#;

const RUN: [&str; 7] =
    ["run", "--sink", "delta-table", "--report", "{dir}/report", "--verify", "full"];

async fn gap(postgres: &Postgres) -> Gap {
    let production = Production::start(postgres, Options::default()).await.unwrap();
    production.sql(SHOP).await.unwrap();
    let gap = Gap::own_after(production, GAP).await;
    gap.head.sql("grant usage on foreign data wrapper postgres_fdw to frugal_head").await.unwrap();
    gap
}

fn assert_found(run: &crate::support::Run) {
    let counts = |table| run.counts("report", table);
    assert_eq!(counts("public.customer"), (0, 3, 0));
    assert_eq!(counts("Stock Room.It\"em"), (0, 0, 2));
    assert_eq!(run.report("report")["totals"]["inserts"], 3);
    assert_eq!(run.report("report")["totals"]["updates"], 4);
    assert_eq!(counts("public.visit"), (2, 0, 0));
}

/// Majors that treat CREATEROLE alike: up to 15, and from 16 on.
fn majors() -> Vec<Postgres> {
    let default = Postgres::find(None).unwrap();
    let (old, new): (Vec<_>, Vec<_>) =
        Postgres::available().into_iter().partition(|postgres| postgres.major() < 16);
    let others = if default.major() < 16 { new } else { old };
    std::iter::once(default).chain(others.into_iter().next()).collect()
}

async fn azures_administrator_is_enough() {
    for postgres in majors() {
        let gap = gap(&postgres).await;
        let (base, head) = Fingerprint::of_both(&gap).await;
        for strategy in ["full", "auto"] {
            let run = deltacompare(&gap, &[&RUN[..], &["--strategy", strategy]].concat());
            let run = run.run().await;
            run.assert_completed();
            assert_found(&run);
            base.assert_same(&Fingerprint::of(&gap.base).await, "base");
        }
        deltacompare(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
        base.assert_same(&Fingerprint::of(&gap.base).await, "base");
        head.assert_same(&Fingerprint::of(&gap.head).await, "head");
    }
}

async fn the_fewest_rights_are_enough() {
    for postgres in majors() {
        let gap = gap(&postgres).await;
        if postgres.major() < 15 {
            gap.head.sql("revoke create on schema public from public").await.unwrap();
        }
        let (base, head) = Fingerprint::of_both(&gap).await;
        let program = |arguments: &[&str]| {
            deltacompare(&gap, arguments)
                .env("DELTACOMPARE_BASE", &url(&gap.base, "frugal_base", "pw"))
                .env("DELTACOMPARE_HEAD", &url(&gap.head, "frugal_head", "pw"))
        };
        for strategy in ["full", "auto"] {
            let run = program(&[&RUN[..], &["--strategy", strategy]].concat()).run().await;
            run.assert_completed();
            assert_found(&run);
            // The histories are for roles with REPLICATION: that is said.
            let warnings = run.report("report")["warnings"].to_string();
            assert!(warnings.contains("not proved"), "{warnings}");
            assert!(warnings.contains("REPLICATION"), "{warnings}");
            base.assert_same(&Fingerprint::of(&gap.base).await, "base");
        }
        // Kept objects are cleaned up by the same roles, the rights on tables included.
        let keep = ["--strategy", "full", "--keep-objects"];
        program(&[&RUN[..], &keep].concat()).run().await.assert_completed();
        let granted: i64 = gap
            .base
            .value(
                "select count(*) from pg_class c cross join aclexplode(c.relacl) a
                   join pg_roles r on r.oid = a.grantee where r.rolname like 'deltacompare%'",
            )
            .await
            .unwrap();
        if postgres.major() >= 16 {
            // Before, CREATEROLE hands on pg_read_all_data.
            assert!(granted >= 4, "{granted}");
        }
        program(&["cleanup", "--yes"]).run().await.assert_completed();
        base.assert_same(&Fingerprint::of(&gap.base).await, "base");
        head.assert_same(&Fingerprint::of(&gap.head).await, "head");
    }
}

async fn rights_that_cannot_be_handed_on() {
    let Some(postgres) = Postgres::available().into_iter().find(|p| p.major() >= 16) else {
        skip("before PostgreSQL 16 CREATEROLE hands on pg_read_all_data: scripts/setup 16");
        return;
    };
    let gap = gap(&postgres).await;
    // May read, but not let others read.
    gap.base.sql("revoke grant option for select on customer from frugal_base").await.unwrap();
    let (base, head) = Fingerprint::of_both(&gap).await;
    let run = deltacompare(&gap, &[&RUN[..], &["--strategy", "full"]].concat())
        .env("DELTACOMPARE_BASE", &url(&gap.base, "frugal_base", "pw"))
        .env("DELTACOMPARE_HEAD", &url(&gap.head, "frugal_head", "pw"))
        .run()
        .await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    for word in ["customer", "pg_read_all_data", "admin option"] {
        assert!(run.stderr.contains(word), "{}", run.stderr);
    }
    base.assert_same(&Fingerprint::of(&gap.base).await, "base");
    head.assert_same(&Fingerprint::of(&gap.head).await, "head");
}

tests! {
    azures_administrator_is_enough: own_servers,
    the_fewest_rights_are_enough: own_servers,
    rights_that_cannot_be_handed_on: own_servers,
}
