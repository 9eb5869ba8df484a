//! What cannot be served is refused, with a sentence that names the next step, and leaves both
//! servers as they were.

use std::time::Duration;

use deltacompare_testbed::{Options, Postgres, Production, Role, Server, StopMode};
use sqlx::{Connection, Executor};

use crate::support::{Fingerprint, Gap, Program, Run, deltacompare, url};

const SHOP: &str = r#"
    create table customer (id int primary key, name text);
    create table invoice (id int primary key, amount numeric);
    insert into customer select i, 'customer ' || i from generate_series(1, 20) i;
    insert into invoice select i, i from generate_series(1, 20) i;
    create publication shop for table customer, invoice;
"#;

/// More (sub)transactions than two restores make of themselves.
const GAP: &str = r#"
    do $$ begin
      for i in 21..120 loop
        begin
          insert into customer values (i, 'new');
        exception when others then null;
        end;
      end loop;
    end $$;
    delete from invoice where id < 4;
"#;

/// A role that lacks nothing, for production; each test takes something away from it.
const FULL_RIGHTS: &str = r#"
    create role careful login createrole replication password 'pw';
    grant pg_monitor, pg_read_all_data to careful with admin option;
    grant create on database shop to careful;
"#;

/// A run with a sink; its arguments come on top.
fn run(gap: &Gap, arguments: &[&str]) -> Program {
    let mut all = vec!["run", "--sink", "ndjson:{dir}/events", "--report", "{dir}/report"];
    all.extend_from_slice(arguments);
    deltacompare(gap, &all)
}

/// A run in which one side is reached under another URL.
fn run_with(gap: &Gap, side: &str, url: &str, arguments: &[&str]) -> Program {
    run(gap, arguments).env(&format!("DELTACOMPARE_{side}"), url)
}

/// Fails unless the program refuses with all of these words and changes nothing on either server.
async fn assert_refused(gap: &Gap, program: Program, words: &[&str]) -> Run {
    let (base, head) = Fingerprint::of_both(gap).await;
    let run = assert_refused_unseen(program, words).await;
    base.assert_same(&Fingerprint::of(&gap.base).await, "base");
    head.assert_same(&Fingerprint::of(&gap.head).await, "head");
    run
}

/// The same where a server is not there to be looked at.
async fn assert_refused_unseen(program: Program, words: &[&str]) -> Run {
    let run = program.run().await;
    assert_eq!(run.code, Some(2), "stdout:\n{}\nstderr:\n{}", run.stdout, run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in:\n{}", run.stderr);
    }
    assert!(!run.file("events").exists() && !run.file("report").exists());
    run
}

/// Fails unless it completes: what is refused elsewhere is not refused here.
async fn assert_runs(program: Program) -> Run {
    let run = program.run().await;
    run.assert_completed();
    run
}

/// Fails unless a plan is made: what is refused elsewhere is not refused here. Quicker than a run.
async fn assert_plans(gap: &Gap) {
    deltacompare(gap, &["plan"]).run().await.assert_completed();
}

/// Runs a statement that writes, and waits until the statistics show it.
async fn write(server: &Server, statement: &str) {
    server.sql(statement).await.unwrap();
    for _ in 0..200 {
        let written: bool = server
            .value(
                "select exists (select from pg_stat_user_tables where schemaname = 'public' \
                    and n_tup_ins + n_tup_upd + n_tup_del > 0)",
            )
            .await
            .unwrap();
        if written {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{statement} was never counted");
}

#[tokio::test]
async fn servers_that_do_not_fit_together() {
    let roles = "create role plain login createrole password 'pw';
                 grant pg_read_all_data to plain;";
    let gap = Gap::between(&format!("{SHOP}{roles}"), GAP).await;
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

#[tokio::test]
async fn other_major_versions() {
    let majors = Postgres::available();
    let (Some(one), Some(other)) = (majors.first(), majors.get(1)) else {
        println!("skipped: only one major version of PostgreSQL is installed (scripts/setup 16)");
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

#[tokio::test]
async fn selections_of_nothing() {
    let more = "create view report as select * from customer;
                create publication empty;";
    let gap = Gap::between(&format!("{SHOP}{more}"), GAP).await;
    for (arguments, words) in [
        (
            &["--publication", "nosuch"][..],
            &["no publication \"nosuch\"", "it has: empty, shop"][..],
        ),
        (&["--publication", "empty"], &["no table is selected", "--table schema.table"]),
        (
            &["--exclude", "public.customer", "--exclude", "public.invoice"],
            &["no table is selected", "--exclude"],
        ),
        (&["--table", "public.nosuch"], &["no table public.nosuch", "check the spelling"]),
        (&["--exclude", "public.nosuch"], &["no table public.nosuch"]),
        (&["--table", "public.report"], &["public.report on head is not a table"]),
        (
            &["--publication", "empty", "--table", "public.customer"],
            &["does not publish public.customer", "leave --publication or this --table out"],
        ),
        (
            &["--table", "public.customer", "--exclude", "public.customer"],
            &["both in --table and in --exclude", "take it out of one"],
        ),
        (&["--table", "customer"], &["\"customer\" is not a table's name", "schema.table"]),
        (&["--sink", "kafka:x"], &["\"kafka:x\" is not a sink", "ndjson:<file> or delta-table"]),
        (&["--sink", "ndjson:"], &["is not a sink"]),
        (&["--format", "avro"], &["--format", "debezium, landing"]),
        (&["--strategy", "magic"], &["--strategy", "full"]),
        (&["--parallel", "0"], &["--parallel", "1..=256"]),
        (&["--fdw-port", "70000"], &["--fdw-port"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (
            &["--sink", "ndjson:{dir}/nosuch/events"],
            &["the folder of", "does not exist", "create it"],
        ),
        (&["--sink", "ndjson:{dir}"], &["is not an empty file", "name another"]),
    ] {
        assert_refused(&gap, run(&gap, arguments), words).await;
    }

    let program = run(&gap, &["--sink", "ndjson:{dir}/old"]);
    let old = program.folder().join("old");
    std::fs::write(&old, "{}\n").unwrap();
    let refused = assert_refused(&gap, program, &["not an empty file", "--resume"]).await;
    assert_eq!(std::fs::read_to_string(refused.file("old")).unwrap(), "{}\n");

    let no_sink = deltacompare(&gap, &["run"]);
    assert_refused(&gap, no_sink, &["--sink"]).await;
    let resume = ["run", "--resume", "0190d1d0-0000-7000-8000-000000000000"];
    assert_refused(&gap, deltacompare(&gap, &resume), &["no recovery 0190d1d0", "check the id"])
        .await;
    let resume = ["run", "--resume", "17"];
    assert_refused(&gap, deltacompare(&gap, &resume), &["--resume"]).await;

    gap.head.sql("drop publication shop; drop publication empty").await.unwrap();
    let words = ["no table is selected", "--table schema.table"];
    assert_refused(&gap, run(&gap, &[]), &words).await;
    let words = ["no publication \"shop\"", "it has none at all: name tables with --table"];
    assert_refused(&gap, run(&gap, &["--publication", "shop"]), &words).await;
}

#[tokio::test]
async fn logins_that_cannot_work() {
    let gap = Gap::between(SHOP, GAP).await;
    let port = gap.base.port();
    let admin = gap.base.url(Role::Admin);

    let sight = ["DELTACOMPARE_BASE_PASSWORD", "every user of this machine can see"];
    let refused = assert_refused(&gap, run(&gap, &["--base", &admin]), &sight).await;
    assert!(!refused.stderr.contains(gap.base.password(Role::Admin)));
    let sight = ["DELTACOMPARE_HEAD_PASSWORD"];
    assert_refused(&gap, run(&gap, &["--head", &gap.head.url(Role::Admin)]), &sight).await;
    let two = run(&gap, &[]).env("DELTACOMPARE_BASE_PASSWORD", "another");
    assert_refused(&gap, two, &["base URL has a password and another one", "keep one"]).await;

    for (url, words) in [
        ("", &["the base URL"][..]),
        ("nonsense", &["the base URL is malformed", "postgres://user@host"]),
        ("mysql://u@h/db", &["does not start with postgres://"]),
        ("postgres://127.0.0.1/shop", &["names no user"]),
        ("postgres://u@127.0.0.1", &["names no database"]),
        ("postgres:///shop", &["names no"]),
        ("postgres://u@127.0.0.1:x/shop", &["malformed"]),
        (
            "postgres://u@127.0.0.1/shop?sslmode=maybe",
            &["unknown sslmode \"maybe\"", "verify-full"],
        ),
        ("postgres://u@127.0.0.1/shop?keepalives=1", &["keepalives", "not supported"]),
        ("postgres://u@nosuch.invalid/shop", &["cannot log in to base", "nosuch.invalid:5432"]),
        ("postgres://u@127.0.0.1:1/shop", &["cannot log in to base", "127.0.0.1:1/", "firewall"]),
    ] {
        assert_refused(&gap, run_with(&gap, "BASE", url, &[]), words).await;
    }
    for (user, password, database, words) in [
        (
            "azure_admin",
            "wrong-secret",
            "shop",
            &["password authentication failed", "check user"][..],
        ),
        ("nobody", "wrong-secret", "shop", &["password authentication failed"]),
        ("azure_admin", "", "nosuch", &["password"]),
        ("azure_admin", gap.base.password(Role::Admin), "nosuch", &["\"nosuch\" does not exist"]),
    ] {
        let url = format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}");
        let refused = assert_refused(&gap, run_with(&gap, "BASE", &url, &[]), words).await;
        assert!(!refused.stderr.contains("wrong-secret"), "{}", refused.stderr);
        assert!(refused.stderr.contains(&format!("127.0.0.1:{port}")), "{}", refused.stderr);
    }
    // `plan` and `cleanup` refuse alike.
    for command in ["plan", "cleanup"] {
        let program =
            deltacompare(&gap, &[command]).env("DELTACOMPARE_BASE", "postgres://u@127.0.0.1:1/x");
        assert_refused(&gap, program, &["cannot log in to base"]).await;
        let program = deltacompare(&gap, &[command]).env("DELTACOMPARE_HEAD", "nonsense");
        assert_refused(&gap, program, &["the head URL is malformed"]).await;
    }
}

#[tokio::test]
async fn extensions_that_are_not_allowed() {
    let gap = Gap::between(SHOP, GAP).await;
    gap.head.sql("drop extension postgres_fdw cascade").await.unwrap();
    // Allowed nowhere else, and a plain role may not create it: PostgreSQL's own refusal.
    let words =
        ["does not let this role set up postgres_fdw", "permission denied", "azure.extensions"];
    assert_refused(&gap, run(&gap, &[]), &words).await;
    for list in ["pgcrypto", "", "pg_cron,POSTGRES_FDW_X"] {
        gap.head.sql(format!("alter database shop set azure.extensions = '{list}'")).await.unwrap();
        let words =
            ["does not allow the extension postgres_fdw", "POSTGRES_FDW", "azure.extensions"];
        assert_refused(&gap, run(&gap, &[]), &words).await;
    }
    gap.head
        .sql("alter database shop set azure.extensions = 'pgcrypto, Postgres_FDW'")
        .await
        .unwrap();
    gap.head.allow_postgres_fdw().await.unwrap();
    assert_runs(run(&gap, &[])).await;
}

#[tokio::test]
async fn rights_that_are_missing() {
    let roles = format!(
        "{FULL_RIGHTS}
         create role reads_some login createrole replication password 'pw';
         grant select on customer to reads_some;
         grant create on database shop to reads_some;"
    );
    let gap = Gap::between(&format!("{SHOP}{roles}"), GAP).await;
    let on = |side: &Server, user: &str| url(side, user, "pw");
    let usage = "grant usage on foreign data wrapper postgres_fdw to careful, reads_some";
    gap.head.sql(usage).await.unwrap();

    for (side, user, take, give, words) in [
        (
            "HEAD",
            "careful",
            "revoke create on database shop from careful",
            "grant create on database shop to careful",
            &["careful may not create schemas on head", "grant create on database shop to careful"]
                [..],
        ),
        (
            "HEAD",
            "careful",
            "revoke usage on foreign data wrapper postgres_fdw from careful",
            "grant usage on foreign data wrapper postgres_fdw to careful",
            &["careful may not use postgres_fdw on head", "grant usage on foreign data wrapper"],
        ),
        (
            "BASE",
            "careful",
            "alter role careful nocreaterole",
            "alter role careful createrole",
            &[
                "careful may not create the throw-away role on base",
                "alter role careful createrole",
            ],
        ),
        (
            "HEAD",
            "reads_some",
            "select",
            "select",
            &["public.invoice on head may not be read: grant select"],
        ),
        (
            "BASE",
            "reads_some",
            "select",
            "select",
            &["public.invoice on base may not be read: grant select"],
        ),
        (
            "HEAD",
            "reads_some",
            "revoke usage on schema public from public",
            "grant usage on schema public to public",
            &["public.customer on head may not be read"],
        ),
        (
            "HEAD",
            "careful",
            "revoke connect on database shop from public",
            "grant connect on database shop to public",
            &["cannot log in to head", "permission denied for database", "check user"],
        ),
    ] {
        let server = if side == "BASE" { &gap.base } else { &gap.head };
        server.sql(take).await.unwrap();
        assert_refused(&gap, run_with(&gap, side, &on(server, user), &[]), words).await;
        server.sql(give).await.unwrap();
    }
    // All at once, and each is told.
    gap.base.sql("alter role reads_some nocreaterole").await.unwrap();
    gap.head.sql("revoke create on database shop from reads_some").await.unwrap();
    let program = run(&gap, &[])
        .env("DELTACOMPARE_BASE", &on(&gap.base, "reads_some"))
        .env("DELTACOMPARE_HEAD", &on(&gap.head, "reads_some"));
    let words = ["create schemas", "throw-away role", "invoice on head", "invoice on base"];
    assert_refused(&gap, program, &words).await;
    // Nothing is taken away now.
    let program = run(&gap, &[])
        .env("DELTACOMPARE_BASE", &on(&gap.base, "careful"))
        .env("DELTACOMPARE_HEAD", &on(&gap.head, "careful"));
    assert_runs(program).await;
}

#[tokio::test]
async fn row_security_that_would_hide_rows() {
    let before = format!(
        "{SHOP}
         create policy visible on customer using (id > 5);
         create policy visible on invoice using (id > 5);
         alter table customer enable row level security;"
    );
    let during = format!(
        "{GAP}
         alter table customer disable row level security;
         alter table invoice enable row level security;"
    );
    let gap = Gap::between(&before, &during).await;
    let base = ["public.customer has row security, which would hide rows of base", "superuser"];
    assert_refused(&gap, run(&gap, &["--table", "public.customer"]), &base).await;
    let head = ["public.invoice has row security, which would hide rows of head", "BYPASSRLS"];
    assert_refused(&gap, run(&gap, &["--table", "public.invoice"]), &head).await;
    let both = [base[0], head[0], "--exclude"];
    assert_refused(&gap, run(&gap, &[]), &both).await;
    // A superuser sees everything, and so does the role that it makes for head.
    let program = run(&gap, &[])
        .env("DELTACOMPARE_BASE", &gap.base.url(Role::Superuser))
        .env("DELTACOMPARE_HEAD", &gap.head.url(Role::Superuser));
    let run = assert_runs(program).await;
    assert_eq!(run.report("report")["totals"]["inserts"], 100);
    assert_eq!(run.report("report")["totals"]["deletes"], 3);
}

#[tokio::test]
async fn restores_that_were_written_to() {
    let gap = Gap::between(SHOP, GAP).await;

    // Others may hold a transaction id, open, uncounted so far.
    for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
        let mut session = server.connect().await.unwrap();
        session.execute("begin; select pg_current_xact_id()").await.unwrap();
        let pid: i32 =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.unwrap();
        let sentence = format!("{side} is being written to by other sessions (pids {pid})");
        assert_refused(&gap, run(&gap, &[]), &[&sentence, "end these sessions"]).await;
        session.execute("rollback").await.unwrap();
        session.close().await.unwrap();
    }

    let accept = "--accept-written";
    write(&gap.head, "insert into customer values (1000, 'rogue')").await;
    let words =
        ["head was written to since its restore: public.customer (1 rows)", accept, "--exclude"];
    let refused = assert_refused(&gap, run(&gap, &[]), &words).await;
    assert!(!refused.stderr.contains("base was written"), "{}", refused.stderr);
    assert_runs(run(&gap, &["--exclude", "public.customer"])).await;

    write(&gap.base, "update invoice set amount = 0 where id = 10").await;
    let words = ["base was written to since its restore: public.invoice (1 rows)", accept];
    assert_refused(&gap, run(&gap, &[]), &words).await;
    let run = assert_runs(run(&gap, &[accept])).await;
    let warnings = run.report("report")["warnings"].to_string();
    for word in ["base was written to", "head was written to", "not proved"] {
        assert!(warnings.contains(word), "{warnings}");
    }
    // Deletes that are rolled back count too: the statistics do not tell them apart.
    let gap = Gap::between(SHOP, GAP).await;
    write(&gap.base, "begin; delete from invoice where id = 10; rollback").await;
    assert_refused(&gap, self::run(&gap, &[]), &["base was written to", "public.invoice (1 rows)"])
        .await;
}

#[tokio::test]
async fn servers_that_act_by_themselves() {
    let gap = Gap::between(SHOP, GAP).await;
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

#[tokio::test]
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
    let gap = Gap::after(production, GAP).await;
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
            } else {
                assert_plans(&gap).await;
            }
            server.sql(format!("rollback prepared '{quoted}'")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn base_out_of_heads_reach() {
    let gap = Gap::between(SHOP, GAP).await;
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
            println!("skipped: there is no pg_cron for PostgreSQL {} here", postgres.major());
            return None;
        }
        let production = Production::start(&postgres, options).await.unwrap();
        production.sql(SHOP).await.unwrap();
        let mut cron = production.connect_to(cron_database).await.unwrap();
        cron.execute("create extension pg_cron").await.unwrap();
        cron.execute("grant usage on schema cron to azure_admin").await.unwrap();
        cron.close().await.unwrap();
        Some(Gap::after(production, GAP).await)
    }

    async fn on(server: &Server, database: &str, statement: &str) {
        let mut session = server.connect_to(database).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut session).await.unwrap();
        session.close().await.unwrap();
    }

    /// A job that never comes to run during a test.
    fn job(name: &str, user: &str) -> String {
        format!(
            "insert into cron.job (schedule, command, nodeport, jobname, username)
             values ('0 0 29 2 *', 'select 1', 5432, '{name}', '{user}')"
        )
    }

    #[tokio::test]
    async fn of_pg_cron_in_this_database() {
        let Some(gap) = gap("shop").await else { return };
        for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
            on(server, "shop", &job("nightly purge", "azure_admin")).await;
            let sentence = format!("{side} has active scheduled jobs (nightly purge)");
            let words = [sentence.as_str(), "unschedule", "cron.job set active = false"];
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

    #[tokio::test]
    async fn of_pg_cron_in_another_database() {
        let Some(gap) = gap("postgres").await else { return };
        for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
            on(server, "postgres", &job("nightly purge", "azure_admin")).await;
            let sentence = format!("{side} has active scheduled jobs (nightly purge)");
            assert_refused(&gap, run(&gap, &[]), &[&sentence]).await;
            on(server, "postgres", "delete from cron.job").await;
        }
        // A database that may not be entered is told.
        on(&gap.head, "postgres", "revoke connect on database postgres from public").await;
        let barred = assert_runs(run(&gap, &[])).await;
        let warnings = barred.report("report")["warnings"].to_string();
        assert!(warnings.contains("pg_cron on head keeps its jobs in database"), "{warnings}");
        assert!(warnings.contains("make sure that no job runs"), "{warnings}");
    }
}
