//! Restores that were written to, or that act by themselves.

use deltacompare_testbed::{Options, Postgres, Production, Role, Server};

use super::{GAP, SHOP, assert_plans, assert_refused, assert_runs, run, run_with, write};
use crate::support::{Gap, deltacompare, skip};

async fn restores_that_were_written_to() {
    let gap = Gap::own(Options::default(), SHOP, GAP).await;

    // Others may hold a transaction id, open, uncounted so far.
    for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
        let session = server.connect().await.unwrap();
        session.sql("begin; select pg_current_xact_id()").await.unwrap();
        let pid: i32 = session.value("select pg_backend_pid()", &[]).await.unwrap();
        let sentence = format!("{side} is being written to by other sessions (pids {pid})");
        assert_refused(&gap, run(&gap, &[]), &[&sentence, "end these sessions"]).await;
        session.sql("rollback").await.unwrap();
        session.close().await.unwrap();
    }

    let accept = "--accept written";
    write(&gap.head, "insert into customer values (1000, 'rogue')").await;
    let words =
        ["head was written to since its restore: public.customer (1 rows)", accept, "--exclude"];
    let refused = assert_refused(&gap, run(&gap, &[]), &words).await;
    assert!(!refused.stderr.contains("base was written"), "{}", refused.stderr);
    assert_runs(run(&gap, &["--exclude", "public.customer"])).await;

    write(&gap.base, "update invoice set amount = 0 where id = 10").await;
    let words = ["base was written to since its restore: public.invoice (1 rows)", accept];
    assert_refused(&gap, run(&gap, &[]), &words).await;
    let run = assert_runs(run(&gap, &["--accept", "written"])).await;
    let warnings = run.report("report")["warnings"].to_string();
    for word in ["base was written to", "head was written to", "not proved"] {
        assert!(warnings.contains(word), "{warnings}");
    }
    // Deletes that are rolled back count too: the statistics do not tell them apart.
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    write(&gap.base, "begin; delete from invoice where id = 10; rollback").await;
    assert_refused(&gap, self::run(&gap, &[]), &["base was written to", "public.invoice (1 rows)"])
        .await;
}

async fn servers_that_act_by_themselves() {
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    let disabled = "create subscription from_elsewhere
                      connection 'host=127.0.0.1 port=1 dbname=x' publication p
                      with (connect = false, slot_name = 'elsewhere');
                    create function note() returns event_trigger language plpgsql
                      as 'begin insert into invoice values (100); end';
                    create event trigger noted on ddl_command_end execute function note();
                    alter event trigger noted disable;
                    create event trigger replica on ddl_command_end execute function note();
                    alter event trigger replica enable replica;
                    create event trigger other_commands on ddl_command_start
                      when tag in ('CREATE FUNCTION', 'ALTER TABLE') execute function note();
                    create event trigger rewritten on table_rewrite execute function note();";
    let gap_servers = [(&gap.base, "base"), (&gap.head, "head")];
    for (server, _) in gap_servers {
        server.sql(disabled).await.unwrap();
    }
    assert_plans(&gap).await;
    for (server, side) in gap_servers {
        server.sql("alter subscription from_elsewhere enable").await.unwrap();
        let sentence = format!("{side} has enabled subscriptions (from_elsewhere)");
        let words = [sentence.as_str(), "alter subscription … disable"];
        assert_refused(&gap, run(&gap, &[]), &words).await;
        server.sql("alter subscription from_elsewhere disable").await.unwrap();

        for (enable, extra) in [("enable", ""), ("enable always", "")] {
            server.sql(format!("alter event trigger noted {enable}{extra}")).await.unwrap();
            let sentence =
                format!("{side} has event triggers that would fire on our own commands (noted)");
            let words = [sentence.as_str(), "alter event trigger … disable"];
            assert_refused(&gap, run(&gap, &[]), &words).await;
        }
        server.sql("drop event trigger noted").await.unwrap();
        for (event, tag) in [
            ("ddl_command_start", "CREATE SERVER"),
            ("ddl_command_end", "CREATE FOREIGN TABLE"),
            ("sql_drop", "DROP SCHEMA"),
        ] {
            server
                .sql(format!(
                    "create event trigger noted on {event} when tag in ('{tag}')
                     execute function note()"
                ))
                .await
                .unwrap();
            let words = ["on our own commands (noted)"];
            assert_refused(&gap, run(&gap, &[]), &words).await;
            server.sql("drop event trigger noted").await.unwrap();
        }
    }
    assert_plans(&gap).await;
}

/// They have run at our first login already: what they wrote there is no application's doing.
async fn login_triggers() {
    if Postgres::find(None).unwrap().major() < 17 {
        skip("login triggers came with PostgreSQL 17");
        return;
    }
    let before = "create table seen (at timestamptz);
                  create table t (id int primary key);
                  create publication shop for all tables;
                  create function note() returns event_trigger language plpgsql
                    as 'begin insert into public.seen values (now()); end'";
    let gap = Gap::between(before, "insert into t values (1)").await;
    for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
        server
            .sql(
                "create event trigger noted on login execute function note();
                  alter event trigger noted enable always",
            )
            .await
            .unwrap();
        // This role may not write there.
        let run = deltacompare(&gap, &["plan"]).run().await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        for word in ["permission denied for table seen", "a login trigger failed there"] {
            assert!(run.stderr.contains(word), "{}", run.stderr);
        }
        server.sql("alter function note() security definer").await.unwrap();
        for arguments in [
            &["plan"][..],
            &["run", "--sink", "delta-table"],
            &["record", "--file", "{dir}/record"],
        ] {
            let run = deltacompare(&gap, arguments).run().await;
            assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.stderr);
            for word in [
                &format!("{side} has login triggers (noted)"),
                "event_triggers=off",
                "alter event trigger … disable",
            ] {
                assert!(run.stderr.contains(word), "{arguments:?}: {}", run.stderr);
            }
            for word in ["applications", "written to since"] {
                assert!(!run.stderr.contains(word), "{arguments:?}: {}", run.stderr);
            }
        }
        server.sql("alter event trigger noted disable").await.unwrap();
    }
    let more = ["plan", "--exclude", "public.seen"];
    deltacompare(&gap, &more).run().await.assert_completed();
}

async fn prepared_transactions_that_hold_locks() {
    let options =
        Options { conf: vec!["max_prepared_transactions = 5".to_owned()], ..Options::default() };
    let before = format!(
        "{SHOP}
         create table part (id int primary key) partition by range (id);
         create table part_1 partition of part for values from (0) to (10);
         create table elsewhere (id int);
         alter publication shop add table part;"
    );
    let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
    production.sql(before).await.unwrap();
    // Left open on both sides.
    for (statement, gid) in
        [("insert into customer values (-1, 'open')", "merely open"), ("lock table part", "barred")]
    {
        let prepare = format!("begin; {statement}; prepare transaction '{gid}'");
        production.sql(prepare).await.unwrap();
    }
    let gap = Gap::own_after(production, GAP).await;
    let words = [
        "prepared transaction \"barred\" on base holds a lock that keeps public.part from being read",
        "prepared transaction \"barred\" on head",
        "rollback prepared 'barred'",
    ];
    assert_refused(&gap, run(&gap, &[]), &words).await;
    for server in [&gap.base, &gap.head] {
        server.sql("rollback prepared 'barred'").await.unwrap();
    }
    let open = assert_runs(run(&gap, &[])).await;
    let warnings = open.report("report")["warnings"].to_string();
    for word in ["is open on base", "is open on head", "merely open", "count as not made"] {
        assert!(warnings.contains(word), "{warnings}");
    }
    assert_eq!(open.report("report")["totals"]["inserts"], 100);

    for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
        for (table, refused) in [("invoice", true), ("part_1", true), ("elsewhere", false)] {
            let gid = format!("it's {table}");
            let quoted = gid.replace('\'', "''");
            server
                .sql(format!("begin; lock table {table}; prepare transaction '{quoted}'"))
                .await
                .unwrap();
            if refused {
                let sentence = format!("prepared transaction {gid:?} on {side} holds a lock");
                let advice = format!("rollback prepared '{quoted}'");
                assert_refused(&gap, run(&gap, &[]), &[&sentence, &advice]).await;
                // What is not read may be locked.
                for other in [["--table", "public.customer"], ["--exclude", "public.invoice"]] {
                    if table == "invoice" {
                        assert_runs(run(&gap, &other)).await;
                    }
                }
            } else {
                assert_plans(&gap).await;
            }
            server.sql(format!("rollback prepared '{quoted}'")).await.unwrap();
        }
    }
}

mod scheduled_jobs {
    use super::*;

    async fn gap(cron_database: &str) -> Option<Gap> {
        let options = Options {
            conf: vec![
                "shared_preload_libraries = 'pg_cron'".to_owned(),
                format!("cron.database_name = '{cron_database}'"),
            ],
            ..Options::default()
        };
        let postgres = Postgres::find(None).unwrap();
        if !postgres.has_extension("pg_cron") {
            assert!(postgres.major() != 15, "install pg_cron: run scripts/setup");
            skip(format!("there is no pg_cron for PostgreSQL {} here", postgres.major()));
            return None;
        }
        let production = Production::start(&postgres, options).await.unwrap();
        production.sql(SHOP).await.unwrap();
        let cron = production.connect_to(cron_database).await.unwrap();
        cron.sql("create extension pg_cron").await.unwrap();
        cron.sql("grant usage on schema cron to azure_admin").await.unwrap();
        cron.close().await.unwrap();
        Some(Gap::own_after(production, GAP).await)
    }

    async fn on(server: &Server, database: &str, statement: &str) {
        let session = server.connect_to(database).await.unwrap();
        session.sql(statement).await.unwrap();
        session.close().await.unwrap();
    }

    /// A job that never comes to run during a test.
    fn job(name: &str, user: &str) -> String {
        format!(
            "insert into cron.job (schedule, command, nodeport, jobname, username)
             values ('0 0 29 2 *', 'select 1', 5432, '{name}', '{user}')"
        )
    }

    async fn of_pg_cron_in_this_database() {
        let Some(gap) = gap("shop").await else { return };
        for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
            on(server, "shop", &job("nightly purge", "azure_admin")).await;
            let sentence = format!("{side} has active scheduled jobs (nightly purge)");
            let words = [sentence.as_str(), "unschedule", "cron.alter_job(jobid, active := false)"];
            assert_refused(&gap, run(&gap, &[]), &words).await;
            on(server, "shop", "update cron.job set active = false").await;
        }
        // Switched off jobs are none; a user's own view of the list may leave others' out, which
        // is told.
        on(&gap.head, "shop", &job("hidden", "postgres")).await;
        let plain = assert_runs(run(&gap, &[])).await;
        let warnings = plain.report("report")["warnings"].to_string();
        assert!(warnings.contains("jobs of other users in cron.job on head"), "{warnings}");
        // A role that sees them all refuses.
        let program = run_with(&gap, "HEAD", &gap.head.url(Role::Superuser), &[]);
        assert_refused(&gap, program, &["head has active scheduled jobs (hidden)"]).await;
        // One that may not enter the schema is told as well.
        on(&gap.head, "shop", "revoke usage on schema cron from azure_admin").await;
        let barred = assert_runs(run(&gap, &[])).await;
        let warnings = barred.report("report")["warnings"].to_string();
        assert!(warnings.contains("cron.job on head"), "{warnings}");
    }

    async fn of_pg_cron_in_another_database() {
        let Some(gap) = gap("postgres").await else { return };
        for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
            on(server, "postgres", &job("nightly purge", "azure_admin")).await;
            let sentence = format!("{side} has active scheduled jobs (nightly purge)");
            assert_refused(&gap, run(&gap, &[]), &[&sentence]).await;
            on(server, "postgres", "delete from cron.job").await;
        }
        assert_runs(run(&gap, &[])).await;
        // What is in a database that may not be entered runs all the same.
        on(&gap.head, "postgres", "revoke connect on database postgres from public").await;
        let words = [
            "pg_cron on head keeps its jobs in database \"postgres\"",
            "permission denied for database",
            "let this role connect to that database",
        ];
        assert_refused(&gap, run(&gap, &[]), &words).await;
    }

    tests! {
        of_pg_cron_in_this_database: own_servers,
        of_pg_cron_in_another_database: own_servers,
    }
}

tests! {
    [scheduled_jobs]
    restores_that_were_written_to: own_servers,
    servers_that_act_by_themselves: own_servers,
    login_triggers: majors,
    prepared_transactions_that_hold_locks: own_servers,
}
