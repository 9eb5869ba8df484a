//! Two copies of production are no playground: what lives on them by itself, what we put there,
//! and that it goes again.

use deltacompare_testbed::{Connection, Options, Role, Server, StopMode};

use crate::support::{Fingerprint, Gap, Program, Run, deltacompare};

const SHOP: &str = r#"
    create table customer (id int primary key, name text);
    create table visit (id int primary key, page text);
    insert into customer select i, 'customer ' || i from generate_series(1, 20) i;
    insert into visit select i, 'page ' || i from generate_series(1, 20) i;
    create publication shop for all tables;
"#;

const GAP: &str = r#"
    insert into customer values (21, 'new');
    update visit set page = page || '!' where id < 6;
    delete from customer where id < 3;
"#;

fn as_superuser(gap: &Gap, arguments: &[&str]) -> Program {
    deltacompare(gap, arguments)
        .env("DELTACOMPARE_BASE", &gap.base.url(Role::Superuser))
        .env("DELTACOMPARE_HEAD", &gap.head.url(Role::Superuser))
}

const RUN: [&str; 5] = ["run", "--sink", "delta-table", "--report", "{dir}/report"];
/// All tables are read through head, so that there is something to keep.
const RUN_AND_KEEP: [&str; 8] = [
    "run",
    "--sink",
    "delta-table",
    "--report",
    "{dir}/report",
    "--strategy",
    "full",
    "--keep-objects",
];

fn table_names(run: &Run) -> Vec<String> {
    let report = run.report("report");
    let tables = report["tables"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    tables.iter().map(|t| format!("{}.{}", text(&t["schema"]), text(&t["table"]))).collect()
}

/// What carries our name on a server: schemas, roles, foreign servers.
async fn ours(server: &Server) -> Vec<String> {
    let names: Vec<(String,)> = server
        .rows(
            "select 'schema ' || nspname from pg_namespace where nspname like 'deltacompare%'
             union all select 'role ' || rolname from pg_roles where rolname like 'deltacompare%'
             union all
             select 'server ' || srvname from pg_foreign_server where srvname like 'deltacompare%'
             order by 1",
        )
        .await
        .unwrap();
    names.into_iter().map(|(name,)| name).collect()
}

async fn tables_of_one_name_in_many_schemas() {
    let before = format!(
        "{SHOP}
         create schema north; create schema \"South\"; create schema \"select\";
         create table north.customer (id int primary key, name text);
         create table \"South\".customer (id text primary key, other int);
         create table \"South\".\"Customer\" (id int primary key);
         create table \"select\".customer (name text);
         insert into north.customer select i, 'n' from generate_series(1, 5) i;
         insert into \"South\".customer select i, i from generate_series(1, 5) i;"
    );
    let during = format!(
        "{GAP}
         update north.customer set name = 'N' where id = 1;
         delete from \"South\".customer where id in ('1', '2', '3');
         insert into \"South\".\"Customer\" values (1), (2);
         insert into \"select\".customer values ('x'), ('x'), ('x'), ('x');"
    );
    let gap = Gap::between(&before, &during).await;
    let run = deltacompare(&gap, &RUN).run().await;
    run.assert_completed();
    for (table, counts) in [
        ("public.customer", (1, 0, 2)),
        ("public.visit", (0, 5, 0)),
        ("north.customer", (0, 1, 0)),
        ("South.customer", (0, 0, 3)),
        ("South.Customer", (2, 0, 0)),
        ("select.customer", (4, 0, 0)),
    ] {
        assert_eq!(run.counts("report", table), counts, "{table}");
    }
}

async fn our_own_tables_are_nobodys_changes() {
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    let expected = ["public.customer", "public.visit"];
    // No standby of production's is a standby of the copies: nothing of ours waits for one.
    for server in [&gap.base, &gap.head] {
        server.sql("alter system set synchronous_standby_names = '*'").await.unwrap();
        server.sql("select pg_reload_conf()").await.unwrap();
    }
    // FOR ALL TABLES publishes the status tables that the first run leaves, and the foreign and
    // helper schemas of one that keeps them.
    for arguments in [&RUN[..], &RUN_AND_KEEP, &RUN] {
        let run = deltacompare(&gap, arguments).run().await;
        run.assert_completed();
        assert_eq!(table_names(&run), expected);
        assert_eq!(run.counts("report", "public.customer"), (1, 0, 2));
        for word in ["table dropped", "no longer published"] {
            assert!(!run.stdout.contains(word), "{}", run.stdout);
        }
    }
    let recoveries: i64 =
        gap.head.value("select count(*) from deltacompare.recovery").await.unwrap();
    assert_eq!(recoveries, 3);
    let removed = deltacompare(&gap, &["cleanup", "--yes"]).run().await;
    removed.assert_completed();
    assert_eq!(ours(&gap.base).await, [""; 0]);
    assert_eq!(ours(&gap.head).await, [""; 0]);
}

/// The password in `create user mapping … options (user '…', password '…')` of a log.
fn throw_away_passwords(log: &str) -> Vec<&str> {
    log.split("password '").skip(1).filter_map(|rest| rest.split('\'').next()).collect()
}

async fn heads_login_on_base_is_thrown_away() {
    let options = Options { conf: vec!["log_statement = 'all'".to_owned()], ..Options::default() };
    let gap = Gap::own(options, SHOP, GAP).await;
    let before = Fingerprint::of(&gap.base).await;
    let through_head = [&RUN[..], &["--strategy", "full"]].concat();
    deltacompare(&gap, &through_head).run().await.assert_completed();
    before.assert_same(&Fingerprint::of(&gap.base).await, "base");

    let (on_base, on_head) = (gap.base.log(), gap.head.log());
    assert!(on_base.contains("create role \"deltacompare_"), "{on_base}");
    assert!(on_base.contains("SCRAM-SHA-256$"), "{on_base}");
    assert!(on_base.contains("drop role \"deltacompare_"), "{on_base}");
    assert!(on_base.contains("connection authorized") || on_base.contains("FETCH"), "{on_base}");
    // One of the probe, whose role never was, and the recovery's.
    let passwords = throw_away_passwords(&on_head);
    assert_eq!(passwords.len(), 2, "{on_head}");
    for password in passwords {
        assert!(password.len() > 30 && !on_base.contains(password), "{password}");
    }
    let operators = gap.base.password(Role::Admin);
    assert!(!on_base.contains(operators) && !on_head.contains(operators));

    // While it is kept, the login works with nothing but that password; cleaned up, not at all.
    deltacompare(&gap, &RUN_AND_KEEP).run().await.assert_completed();
    let log = gap.head.log();
    let password = throw_away_passwords(&log).pop().unwrap();
    let name: String = gap
        .base
        .value("select rolname::text from pg_roles where rolname like 'deltacompare%'")
        .await
        .unwrap();
    let login = async |password: &str| {
        let (port, database) = (gap.base.port(), gap.base.database());
        let url = format!("postgres://{name}:{password}@127.0.0.1:{port}/{database}");
        Connection::open(&url).await
    };
    login(password).await.unwrap().close().await.unwrap();
    login("wrong").await.unwrap_err();
    let (powers, forever): (bool, bool) = gap
        .base
        .rows(
            "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls,
                    coalesce(rolvaliduntil > now() + interval '31 days', true)
               from pg_roles where rolname like 'deltacompare%'",
        )
        .await
        .unwrap()[0];
    assert!(!powers && !forever, "it may do more than it needs, or for ever");
    deltacompare(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    login(password).await.unwrap_err();
    before.assert_same(&Fingerprint::of(&gap.base).await, "base");
}

async fn cleanup_removes_what_is_ours() {
    let parent = "create table parent (id int primary key);
                  create table child () inherits (parent);
                  insert into parent values (1);";
    let gap = Gap::own(Options::default(), &format!("{SHOP}{parent}"), GAP).await;
    gap.head.sql("drop extension postgres_fdw").await.unwrap();
    let (base, head) = Fingerprint::of_both(&gap).await;
    for _ in 0..2 {
        as_superuser(&gap, &RUN_AND_KEEP).run().await.assert_completed();
    }
    // Two recoveries: on base a role and, for the parent's helper view, a schema each.
    assert_eq!(ours(&gap.base).await.len(), 4);
    assert_eq!(ours(&gap.head).await.len(), 5);
    let cleanup = as_superuser(&gap, &["cleanup", "--yes"]).run().await;
    cleanup.assert_completed();
    for word in ["base: role", "base: schema", "head: schema", "head: extension postgres_fdw"] {
        assert!(cleanup.stdout.contains(word), "{word}: {}", cleanup.stdout);
    }
    base.assert_same(&Fingerprint::of(&gap.base).await, "base");
    head.assert_same(&Fingerprint::of(&gap.head).await, "head");
    let again = as_superuser(&gap, &["cleanup", "--yes"]).run().await;
    again.assert_completed();
    assert!(again.stdout.contains("nothing to remove"), "{}", again.stdout);

    // Status tables of somebody whose rights we do not have.
    as_superuser(&gap, &RUN).run().await.assert_completed();
    gap.head.allow_postgres_fdw().await.unwrap();
    let refused = deltacompare(&gap, &RUN).run().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("belongs to postgres"), "{}", refused.stderr);
    gap.head
        .sql("revoke usage on foreign data wrapper postgres_fdw from azure_admin")
        .await
        .unwrap();
    as_superuser(&gap, &["cleanup", "--yes"]).run().await.assert_completed();

    // The extension is ours, but by now it carries somebody's server: it stays where it is, since Azure
    // lets nobody put it elsewhere.
    as_superuser(&gap, &RUN_AND_KEEP).run().await.assert_completed();
    gap.head.sql("create server theirs foreign data wrapper postgres_fdw").await.unwrap();
    as_superuser(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    assert_eq!(ours(&gap.head).await, ["schema deltacompare"]);
    let count = async |query: &str| gap.head.value::<i64>(query).await.unwrap();
    let servers = "select count(*) from pg_foreign_server where srvname = 'theirs'";
    assert_eq!(count(servers).await, 1);
    let relations = "select count(*) from pg_class
                      where relnamespace = (select oid from pg_namespace
                                             where nspname = 'deltacompare')";
    assert_eq!(count(relations).await, 0, "tables of the status are left");
    // Recoveries go on from there, and once nobody uses the extension, it goes, too.
    as_superuser(&gap, &RUN).run().await.assert_completed();
    gap.head.sql("drop server theirs").await.unwrap();
    as_superuser(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    assert_eq!(ours(&gap.head).await, [""; 0]);
    head.assert_same(&Fingerprint::of(&gap.head).await, "head");
    base.assert_same(&Fingerprint::of(&gap.base).await, "base");
}

async fn cleanup_leaves_what_is_not_ours() {
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    // Theirs: an extension, a server on it, and names like ours.
    let theirs = "
        create role deltacompare_0123456789ab; comment on role deltacompare_0123456789ab is 'mine';
        create role deltacompare_ba9876543210;
        create schema deltacompare_0123456789ab;
        create table deltacompare_0123456789ab.precious (id int);
        create schema deltacompare_backup;
        create table deltacompare_backup.precious (id int);";
    gap.base.sql(theirs).await.unwrap();
    let on_head = format!(
        "{theirs}
         create server theirs foreign data wrapper postgres_fdw options (host 'elsewhere');
         create user mapping for azure_admin server theirs options (user 'x', password 'y');
         create foreign table theirs (id int) server theirs;
         create server deltacompare_0123456789ab foreign data wrapper postgres_fdw;"
    );
    gap.head.sql(on_head).await.unwrap();
    let (base, head) = Fingerprint::of_both(&gap).await;
    // A role that may only do what an administrator may, and one that may drop anything.
    let nothing = deltacompare(&gap, &["cleanup", "--yes"]).run().await;
    nothing.assert_completed();
    assert!(nothing.stdout.contains("nothing to remove"), "{}", nothing.stdout);
    as_superuser(&gap, &RUN_AND_KEEP).run().await.assert_completed();
    as_superuser(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    base.assert_same(&Fingerprint::of(&gap.base).await, "base");
    head.assert_same(&Fingerprint::of(&gap.head).await, "head");

    // A schema that happens to have the status schema's name.
    gap.head
        .sql("create schema deltacompare; create table deltacompare.precious (id int)")
        .await
        .unwrap();
    let head = Fingerprint::of(&gap.head).await;
    let refused = deltacompare(&gap, &RUN).run().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("schema deltacompare of postgres"), "{}", refused.stderr);
    as_superuser(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    head.assert_same(&Fingerprint::of(&gap.head).await, "head");
}

/// Extensions bring event triggers too; nobody can be asked to switch those off.
async fn event_triggers_of_extensions_are_told() {
    let gap = Gap::between(SHOP, GAP).await;
    gap.head
        .sql(
            "create function nothing() returns event_trigger language plpgsql as 'begin end';
             create event trigger theirs on ddl_command_end execute function nothing();
             alter extension plpgsql add event trigger theirs",
        )
        .await
        .unwrap();
    let plan = deltacompare(&gap, &["plan"]).run().await;
    plan.assert_completed();
    let warning = "event triggers of extensions fire on our own commands on head (theirs)";
    assert!(plan.stdout.contains(warning), "{}", plan.stdout);
}

/// Production's foreign servers came along; ours, which an earlier recovery kept, are none of them.
async fn foreign_servers_of_the_copies_are_told() {
    let gap = Gap::between(SHOP, GAP).await;
    deltacompare(&gap, &RUN_AND_KEEP).run().await.assert_completed();
    let plan = deltacompare(&gap, &["plan"]).run().await;
    plan.assert_completed();
    assert!(!plan.stdout.contains("foreign servers"), "{}", plan.stdout);
    gap.head.sql("create server theirs foreign data wrapper postgres_fdw").await.unwrap();
    let plan = deltacompare(&gap, &["plan"]).run().await;
    plan.assert_completed();
    assert!(plan.stdout.contains("head has foreign servers (theirs)"), "{}", plan.stdout);
    assert!(!plan.stdout.contains("base has foreign servers"), "{}", plan.stdout);
}

/// What is not copied to a restore, and what should not have been.
async fn parameters_and_slots_of_the_copies_are_told() {
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    let plan = async || as_superuser(&gap, &["plan"]).run().await;
    let before = plan().await;
    before.assert_completed();
    for warning in ["replication slots", "shared_preload_libraries"] {
        assert!(!before.stdout.contains(warning), "{}", before.stdout);
    }
    for statement in [
        "select pg_create_physical_replication_slot('left_over')",
        "alter system set shared_preload_libraries = 'auto_explain'",
    ] {
        gap.head.sql(statement).await.unwrap();
    }
    let restart = async || {
        gap.head.stop(StopMode::Fast).await.unwrap();
        gap.head.start().await.unwrap();
    };
    restart().await;
    let told = plan().await;
    told.assert_completed();
    for warning in [
        "head has replication slots (left_over)",
        "shared_preload_libraries is \"\" on base and \"auto_explain\" on head",
    ] {
        assert!(told.stdout.contains(warning), "no {warning:?} in {}", told.stdout);
    }
    gap.head.sql("alter system set max_connections = 9").await.unwrap();
    restart().await;
    let refused = plan().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    let why = "head takes 9 connections, 3 of them reserved, and this recovery needs 10 sessions";
    assert!(refused.stderr.contains(why), "{}", refused.stderr);
}

tests! {
    parameters_and_slots_of_the_copies_are_told: own_servers,
    tables_of_one_name_in_many_schemas,
    our_own_tables_are_nobodys_changes: own_servers,
    heads_login_on_base_is_thrown_away: own_servers,
    cleanup_removes_what_is_ours: own_servers,
    cleanup_leaves_what_is_not_ours: own_servers,
    event_triggers_of_extensions_are_told,
    foreign_servers_of_the_copies_are_told,
}
