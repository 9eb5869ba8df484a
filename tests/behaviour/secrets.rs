//! Passwords, keys and tokens are nowhere but in the memory of our process.

use std::collections::BTreeSet;
use std::time::Duration;

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions};
use deltacompare_testbed::{IdentityEndpoint, Options, Server};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Gap, Hosted, Program, Run, deltacompare};
use crate::vault::{self, Azure};

/// Marked passwords that need escaping in a URL and in SQL.
const ON_BASE: &str = "base-Walrus9 '\"%\\";
const ON_HEAD: &str = "head-Walrus9 '\"%\\";

/// What of them must not be seen: as they are and as a URL has them.
const MARKS: [&str; 4] = ["base-Walrus9", "head-Walrus9", "base%2DWalrus9", "head%2DWalrus9"];

fn assert_no_secret(text: &str, whence: &str) {
    let text_lower = text.to_lowercase();
    for mark in MARKS {
        if let Some(at) = text_lower.find(&mark.to_lowercase()) {
            let from = text_lower[..at].char_indices().rev().nth(80).map_or(0, |(from, _)| from);
            panic!("a password is in {whence}: {}", text_lower[from..].lines().next().unwrap());
        }
    }
}

fn assert_none_printed(run: &Run) {
    assert_no_secret(&run.stdout, "standard output");
    assert_no_secret(&run.stderr, "standard error");
}

fn encoded(password: &str) -> String {
    password.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn url(server: &Server, password: Option<&str>) -> String {
    let password = password.map(|password| format!(":{}", encoded(password))).unwrap_or_default();
    format!("postgres://azure_admin{password}@127.0.0.1:{}/shop?sslmode=disable", server.port())
}

async fn gap() -> Gap {
    let options = Options { conf: vec!["log_statement = 'all'".to_owned()], ..Options::default() };
    let before = "create table t (id int primary key, v text);
                  create table keyless (v text);
                  alter table keyless replica identity full;
                  create publication p for all tables;
                  insert into t select i, repeat('x', 100) from generate_series(1, 2000) i;
                  insert into keyless select 'v' || i from generate_series(1, 2000) i;";
    let during = "update t set v = 'y' where id % 2 = 0; delete from keyless where v like 'v1%'";
    let gap = Gap::own(options, before, during).await;
    for (server, password) in [(&gap.base, ON_BASE), (&gap.head, ON_HEAD)] {
        let quoted = password.replace('\'', "''");
        let silently = format!(
            "set log_statement = none; set log_min_messages = panic;
                                alter role azure_admin password '{quoted}'"
        );
        // `set` holds from the next message on.
        let session = server.connect().await.unwrap();
        for statement in silently.split(';') {
            session.sql(statement).await.unwrap();
        }
    }
    gap
}

fn traced(gap: &Gap, arguments: &[&str]) -> Program {
    deltacompare(gap, arguments)
        .env("DELTACOMPARE_LOG", "trace")
        .env("DELTACOMPARE_BASE", &url(&gap.base, Some(ON_BASE)))
        .env("DELTACOMPARE_HEAD", &url(&gap.head, Some(ON_HEAD)))
}

/// Every value of every table of a schema, as text.
async fn dump(server: &Server, schema: &str) -> String {
    let tables: Vec<(String,)> = server
        .rows(format!(
            "select format('%I.%I', schemaname, tablename) from pg_tables
              where schemaname = '{schema}'"
        ))
        .await
        .unwrap();
    let mut all = String::new();
    for (table,) in tables {
        let rows: Vec<(String,)> =
            server.rows(format!("select t::text from {table} t")).await.unwrap();
        all.extend(rows.into_iter().map(|(row,)| row + "\n"));
    }
    all
}

/// Watches what others on the machine and on the servers can see, until it is dropped.
async fn watch(gap: &Gap, seen: &mut BTreeSet<String>) {
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            if let Ok(line) = std::fs::read_to_string(entry.path().join("cmdline"))
                && line.contains("deltacompare")
            {
                seen.insert(line.replace('\0', " "));
            }
        }
        for server in [&gap.base, &gap.head] {
            let sessions: Vec<(String,)> = server
                .rows(
                    "select a::text from pg_stat_activity a where pid <> pg_backend_pid()
                      and usename is not null",
                )
                .await
                .unwrap();
            seen.extend(sessions.into_iter().map(|(session,)| session));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn a_whole_run_shows_no_password() {
    let gap = gap().await;
    for strategy in ["auto", "full"] {
        let mut seen = BTreeSet::new();
        let arguments = [
            "run",
            "--sink",
            "delta-table",
            "--sink",
            "ndjson:{dir}/events",
            "--report",
            "{dir}/report",
            "--verify",
            "full",
            "--keep-objects",
            "--strategy",
            strategy,
        ];
        let run = tokio::select! {
            run = traced(&gap, &arguments).run() => run,
            () = watch(&gap, &mut seen) => unreachable!(),
        };
        run.assert_completed();
        assert_eq!(run.counts("report", "public.t"), (0, 1000, 0));
        // There is something to look through.
        assert!(run.stderr.contains(" tokio_postgres"), "the driver is silent: {}", run.stderr);
        assert_none_printed(&run);
        for file in ["events", "report"] {
            assert_no_secret(&std::fs::read_to_string(run.file(file)).unwrap(), file);
        }
        assert!(seen.iter().any(|line| line.contains("--keep-objects")), "{seen:#?}");
        assert!(seen.iter().any(|line| line.contains("deltacompare ")), "{seen:#?}");
        assert_no_secret(&seen.into_iter().collect::<Vec<_>>().join("\n"), "what others see");
    }
    let status = dump(&gap.head, "deltacompare").await;
    assert!(status.len() > 10_000, "{status}");
    assert_no_secret(&status, "the status tables");
    for (server, name) in [(&gap.base, "base"), (&gap.head, "head")] {
        assert_no_secret(&server.log(), &format!("{name}'s log"));
        let options: Vec<(String,)> = server
            .rows(
                "select m::text || s::text from pg_user_mapping m
                     join pg_foreign_server s on s.oid = m.umserver",
            )
            .await
            .unwrap();
        assert_no_secret(&format!("{options:?}"), "foreign servers");
    }
    let plan = traced(&gap, &["plan", "--json"]).run().await;
    plan.assert_completed();
    assert_none_printed(&plan);
    let cleanup = traced(&gap, &["cleanup", "--yes"]).run().await;
    cleanup.assert_completed();
    assert_none_printed(&cleanup);
    for server in [&gap.base, &gap.head] {
        assert_no_secret(&server.log(), "a log");
    }
}

async fn neither_passwords_of_the_vault_nor_tokens_are_shown() {
    let azure = Azure::start(None).await;
    let gap = vault::gap(&azure).await;
    let no_secret = |text: &str, whence: &str| {
        assert!(!text.contains("Walrus9"), "a secret is in {whence}: {text}");
    };
    let arguments =
        ["run", "--sink", "delta-table", "--report", "{dir}/report", "--verify", "full"];
    let run = azure.program(&gap, &arguments).env("DELTACOMPARE_LOG", "trace").run().await;
    run.assert_completed();
    // There is something to look through: the clients speak of their requests.
    assert!(run.stderr.contains("dc.vault.test"), "{}", run.stderr);
    assert!(
        run.stderr.contains("IDENTITY") || run.stderr.contains("api-version"),
        "{}",
        run.stderr
    );
    no_secret(&run.stdout, "standard output");
    no_secret(&run.stderr, "the log");
    no_secret(&std::fs::read_to_string(run.file("report")).unwrap(), "the report");
    no_secret(&dump(&gap.head, "deltacompare").await, "the status tables");
    // Failures: a wrong password, a secret that is no URL, a vault that refuses.
    azure.vault.set("base-password", "wrong-Walrus9");
    for (name, value) in [
        ("DELTACOMPARE_LOG", "trace"),
        ("DELTACOMPARE_BASE_SECRET", "head-password"),
        ("DELTACOMPARE_BASE_SECRET", "postgres://u:Walrus9@h/db"),
        ("DELTACOMPARE_VAULT", "https://u:Walrus9@dc.vault.test/x"),
    ] {
        let run = azure.program(&gap, &arguments).env(name, value).run().await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        no_secret(&run.stderr, "an error");
    }
}

async fn an_event_hub_run_shows_neither_keys_nor_signatures_nor_tokens() {
    let azure = Azure::start(None).await;
    let gap = vault::gap(&azure).await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    hub.trust(azure.identity.tokens());
    let string = hub.connection_string();
    let (_, key) = string.split_once("SharedAccessKey=").unwrap();
    azure.vault.set("hub", &string);
    let no_secret = |text: &str, whence: &str| {
        for mark in ["Walrus9", key, "SharedAccessSignature", "sig="] {
            assert!(!text.contains(mark), "{mark} is in {whence}");
        }
    };
    let (sink, endpoint) = (hub.sink(), hub.endpoint());
    let mut arguments = vec!["run", "--report", "{dir}/report", "--sink", &sink];
    arguments.extend(["--event-hub-endpoint", &endpoint]);
    let by_key = [&arguments[..], &["--event-hub-connection-string-secret", "hub"]].concat();
    // With tokens of the identity, and with signatures by the policy's key.
    for arguments in [&arguments, &by_key] {
        let before = hub.stored();
        let mut seen = BTreeSet::new();
        let run = tokio::select! {
            run = azure.program(&gap, arguments).env("DELTACOMPARE_LOG", "trace").run() => run,
            () = watch(&gap, &mut seen) => unreachable!(),
        };
        run.assert_completed();
        assert_eq!(hub.stored() - before, 500);
        assert!(seen.iter().any(|line| line.contains("--event-hub-endpoint")), "{seen:#?}");
        no_secret(&seen.into_iter().collect::<Vec<_>>().join("\n"), "what others see");
        assert!(run.stderr.contains("fe2o3_amqp"), "there is nothing to look through");
        no_secret(&run.stdout, "standard output");
        no_secret(&run.stderr, "the log");
        no_secret(&std::fs::read_to_string(run.file("report")).unwrap(), "the report");
    }
    no_secret(&dump(&gap.head, "deltacompare").await, "the status tables");
    // Refusals: the hub knows neither the issuer nor the key any more.
    hub.change_key();
    hub.trust(IdentityEndpoint::start(None).await.unwrap().tokens());
    for arguments in [&arguments, &by_key] {
        let run = azure.program(&gap, arguments).env("DELTACOMPARE_LOG", "trace").run().await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        no_secret(&run.stderr, "an error");
    }
}

/// Callers show them in a header or in the address, and the host hands both on.
async fn function_keys_are_in_no_log_no_answer_and_no_status() {
    let before = "create table t (id int primary key); create publication p for table t";
    let gap = Gap::between(before, "insert into t values (1)").await;
    let app = Hosted::start(&gap, 1, &[("DELTACOMPARE_LOG", "trace")]).await;
    let key = app.host.host_key();
    let no_key = |text: &str, whence: &str| {
        let line = text.lines().find(|line| line.contains(key));
        assert_eq!(line, None, "a function key is in {whence}");
    };
    let recovery = app.begin(&json!({"sinks": ["delta-table"]})).await;
    app.completed(&recovery).await;
    let client = reqwest::Client::new();
    let in_address = async |method: Method, path: &str, body: &'static str| {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{mark}code={key}", app.host.url());
        let request = client.request(method, url).header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        let (status, headers) = (answer.status(), format!("{:?}", answer.headers()));
        no_key(&headers, "the headers of an answer");
        no_key(&answer.text().await.unwrap(), "an answer");
        status
    };
    for (method, path, body, status) in [
        (Method::GET, "/api/recoveries?limit=1", "", StatusCode::OK),
        (Method::GET, &format!("/api/recoveries/{recovery}"), "", StatusCode::OK),
        (Method::GET, "/api/recoveries?limit=x", "", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/recoveries?page=2", "", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/recoveries/seven", "", StatusCode::NOT_FOUND),
        (Method::POST, "/api/plan", "{\"sinks\": [\"delta-table\"]}", StatusCode::OK),
        (Method::POST, "/api/recoveries", "{", StatusCode::BAD_REQUEST),
        (Method::POST, "/api/recoveries", "{\"sinks\": []}", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(in_address(method, path, body).await, status, "{path}");
    }
    let lines = app.host.log();
    assert!(lines.len() < 20_000, "the beginning of the log is gone");
    let log: Vec<&str> =
        lines.iter().filter(|line| line.by_handler).map(|line| line.text.as_str()).collect();
    let log = log.join("\n");
    assert!(log.contains("\"level\":\"TRACE\"") && log.contains("hyper"), "trace says little");
    no_key(&log, "the log");
    no_key(&dump(&gap.head, "deltacompare").await, "the status tables");
    no_key(&gap.head.log(), "head's log");

    // The client, which shows the key; and one that the app does not take.
    for (given, code) in [(key, 0), ("wrong-Walrus9", 2)] {
        let run = deltacompare(&gap, &["status"])
            .env("DELTACOMPARE_LOG", "trace")
            .env("DELTACOMPARE_APP", &app.host.url())
            .env("DELTACOMPARE_APP_KEY", given)
            .run()
            .await;
        assert_eq!(run.code, Some(code), "{}", run.stderr);
        assert!(run.stderr.contains("hyper"), "trace says little: {}", run.stderr);
        for said in [&run.stdout, &run.stderr] {
            assert!(!said.contains(given), "the client shows the key: {said}");
        }
    }
}

async fn failures_show_no_password() {
    let gap = gap().await;
    let run = ["run", "--sink", "delta-table"];
    // Passwords beside the URLs work and are not shown either.
    let beside = |base: &str, head: &str| {
        traced(&gap, &["plan"])
            .env("DELTACOMPARE_BASE", &url(&gap.base, None))
            .env("DELTACOMPARE_HEAD", &url(&gap.head, None))
            .env("DELTACOMPARE_BASE_PASSWORD", base)
            .env("DELTACOMPARE_HEAD_PASSWORD", head)
    };
    let good = beside(ON_BASE, ON_HEAD).run().await;
    good.assert_completed();
    assert_none_printed(&good);
    let exchanged = beside(ON_HEAD, ON_BASE).run().await;
    assert_eq!(exchanged.code, Some(2), "{}", exchanged.stderr);
    assert_none_printed(&exchanged);

    let unreachable = url(&gap.base, Some(ON_BASE)).replace("127.0.0.1", "nosuch.invalid");
    let closed = url(&gap.base, Some(ON_BASE)).replace(&gap.base.port().to_string(), "1");
    let no_database = url(&gap.base, Some(ON_BASE)).replace("/shop", "/nosuch");
    let no_such_mode = url(&gap.base, Some(ON_BASE)).replace("disable", "wrong");
    let no_port = url(&gap.base, Some(ON_BASE)).replace("127.0.0.1:", "127.0.0.1:x");
    let no_scheme = url(&gap.base, Some(ON_BASE)).replace("postgres://", "");
    // Not escaped as it should be.
    let raw = format!("postgres://azure_admin:base-Walrus9@/#x@127.0.0.1:{}/shop", gap.base.port());
    for url in [unreachable, closed, no_database, no_such_mode, no_port, no_scheme, raw] {
        let refused = traced(&gap, &run).env("DELTACOMPARE_BASE", &url).run().await;
        assert_eq!(refused.code, Some(2), "{url}: {}", refused.stderr);
        assert_none_printed(&refused);
        // On the command line it is refused, and not repeated.
        let refused = traced(&gap, &[&run[..], &["--base", &url]].concat()).run().await;
        assert_eq!(refused.code, Some(2), "{url}: {}", refused.stderr);
        assert_none_printed(&refused);
    }
    let help = traced(&gap, &["run", "--help"]).run().await;
    assert_none_printed(&help);
    let two =
        traced(&gap, &run).env("DELTACOMPARE_BASE_PASSWORD", "base-Walrus9-other").run().await;
    assert_eq!(two.code, Some(2));
    assert_none_printed(&two);
    // A failure in the middle: base vanishes from under the diff.
    let refused = traced(&gap, &[&run[..], &["--fdw", "port=1"]].concat()).run().await;
    assert_eq!(refused.code, Some(2));
    assert_none_printed(&refused);
}

tests! {
    a_whole_run_shows_no_password: own_servers in_turn,
    neither_passwords_of_the_vault_nor_tokens_are_shown: own_servers in_turn,
    an_event_hub_run_shows_neither_keys_nor_signatures_nor_tokens: own_servers in_turn,
    function_keys_are_in_no_log_no_answer_and_no_status: in_turn,
    failures_show_no_password: own_servers in_turn,
}
