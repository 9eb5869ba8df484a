//! Logins, rights and extensions that are missing, and row security that would hide rows.

use deltacompare_testbed::{Options, Role, Server};

use super::{GAP, SHOP, assert_refused, assert_runs, run, run_with};
use crate::support::{Gap, deltacompare, url};

/// A role that lacks nothing, for production; each test takes something away from it.
const FULL_RIGHTS: &str = r#"
    create role careful login createrole replication password 'pw';
    grant pg_monitor, pg_read_all_data to careful with admin option;
    grant create on database shop to careful;
"#;

async fn logins_that_cannot_work() {
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
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
        ("", &["--base <URL>"][..]),
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
        ("postgres://u@127.0.0.1,localhost/shop", &["names more than one host", "another server"]),
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
    // Nothing says the password; or what says it has one that no one typed.
    let none = url(&gap.base, "azure_admin", "").replace(":@", "@");
    let words = ["no password was given: set DELTACOMPARE_BASE_PASSWORD", "--base-secret"];
    assert_refused(&gap, run_with(&gap, "BASE", &none, &[]), &words).await;
    let torn = format!("{}\n", gap.base.password(Role::Admin));
    let program = run_with(&gap, "BASE", &none, &[]).env("DELTACOMPARE_BASE_PASSWORD", &torn);
    let words = ["the password that DELTACOMPARE_BASE_PASSWORD has ends in a newline"];
    assert_refused(&gap, program, &words).await;
    // A part of a password is never taken for something that may be repeated.
    for url in ["postgres://u:p@ss/w@127.0.0.1", "postgres://u:p@ss/w@127.0.0.1/shop"] {
        let words = ["not percent-encoded", "%40"];
        let refused = assert_refused(&gap, run_with(&gap, "BASE", url, &[]), &words).await;
        assert!(!refused.stderr.contains("ss/w"), "{}", refused.stderr);
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

async fn extensions_that_are_not_allowed() {
    const FULL: [&str; 2] = ["--strategy", "full"];
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    gap.head.sql("drop extension postgres_fdw cascade").await.unwrap();
    // Allowed nowhere else, and a plain role may not create it: PostgreSQL's own refusal.
    let words =
        ["does not let this role set up postgres_fdw", "permission denied", "azure.extensions"];
    assert_refused(&gap, run(&gap, &FULL), &words).await;
    for list in ["pgcrypto", "", "pg_cron,POSTGRES_FDW_X"] {
        gap.head.sql(format!("alter database shop set azure.extensions = '{list}'")).await.unwrap();
        let words =
            ["does not allow the extension postgres_fdw", "POSTGRES_FDW", "azure.extensions"];
        assert_refused(&gap, run(&gap, &FULL), &words).await;
    }
    gap.head
        .sql("alter database shop set azure.extensions = 'pgcrypto, Postgres_FDW'")
        .await
        .unwrap();
    gap.head.allow_postgres_fdw().await.unwrap();
    assert_runs(run(&gap, &FULL)).await;
}

async fn rights_that_are_missing() {
    let roles = format!(
        "{FULL_RIGHTS}
         create role reads_some login createrole replication password 'pw';
         grant select on customer to reads_some;
         grant create on database shop to reads_some;"
    );
    let gap = Gap::own(Options::default(), &format!("{SHOP}{roles}"), GAP).await;
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
            &[
                "1 of the tables may not be read: on head, grant pg_read_all_data to reads_some; or",
                "public.invoice (head)",
            ],
        ),
        (
            "BASE",
            "reads_some",
            "select",
            "select",
            &["on base, grant pg_read_all_data to reads_some;", "public.invoice (base)"],
        ),
        (
            "HEAD",
            "reads_some",
            "revoke usage on schema public from public",
            "grant usage on schema public to public",
            &["2 of the tables may not be read", "public.customer (head), public.invoice (head)"],
        ),
        (
            "HEAD",
            "careful",
            "alter role careful connection limit 3",
            "alter role careful connection limit -1",
            &[
                "role careful on head has connection limit 3, and this recovery needs 10 sessions",
                "alter role careful connection limit 10",
                "--parallel",
            ],
        ),
        (
            "BASE",
            "careful",
            "alter database shop connection limit 4",
            "alter database shop connection limit -1",
            &["database shop on base has connection limit 4, and this recovery needs 5 sessions"],
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
    // Head's own sessions on base count too, and not those of a role's limit.
    gap.base.sql("alter database shop connection limit 6").await.unwrap();
    assert_runs(run_with(&gap, "BASE", &on(&gap.base, "careful"), &[])).await;
    let full = ["--strategy", "full"];
    let words = [
        "database shop on base has connection limit 6, and this recovery needs 7 sessions there",
        "alter database shop connection limit 7",
    ];
    assert_refused(&gap, run_with(&gap, "BASE", &on(&gap.base, "careful"), &full), &words).await;
    gap.base.sql("alter database shop connection limit 7").await.unwrap();
    assert_runs(run_with(&gap, "BASE", &on(&gap.base, "careful"), &full)).await;
    gap.base.sql("alter database shop connection limit -1").await.unwrap();
    gap.head.sql("drop schema deltacompare cascade").await.unwrap();
    // All at once, and each is told.
    gap.base.sql("alter role reads_some nocreaterole").await.unwrap();
    gap.head.sql("revoke create on database shop from reads_some").await.unwrap();
    let program = run(&gap, &[])
        .env("DELTACOMPARE_BASE", &on(&gap.base, "reads_some"))
        .env("DELTACOMPARE_HEAD", &on(&gap.head, "reads_some"));
    let words = [
        "create schemas",
        "throw-away role",
        "on base, grant pg_read_all_data to reads_some; on head, grant pg_read_all_data to reads_some",
        "public.invoice (base, head)",
    ];
    assert_refused(&gap, program, &words).await;
    // Nothing is taken away now.
    let program = run(&gap, &[])
        .env("DELTACOMPARE_BASE", &on(&gap.base, "careful"))
        .env("DELTACOMPARE_HEAD", &on(&gap.head, "careful"));
    assert_runs(program).await;
}

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
    let gap = Gap::own(Options::default(), &before, &during).await;
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

tests! {
    logins_that_cannot_work: own_servers,
    extensions_that_are_not_allowed: own_servers,
    rights_that_are_missing: own_servers,
    row_security_that_would_hide_rows: own_servers,
}
