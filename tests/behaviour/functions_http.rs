//! The app, as the Functions host and its callers see it.

mod service;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use deltacompare::app::bindings::{FUNCTIONS, Trigger};
use deltacompare_testbed::{Azurite, Role, schemathesis};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::functions_faults::{TABLES, changes, request, schema, slow_down};
use crate::support::{Events, Gap, Hosted, assert_events_turn_base_into_head, deltacompare, until};
use service::Service;

const CLI: &str = include_str!("../../docs/cli.md");

async fn it_answers_at_once_before_anything_is_configured() {
    let since = Instant::now();
    let service = Service::start(&[]).await;
    assert_eq!(service.get("/").await.status(), 200);
    // A busy machine starts programs slowly; the host gives it 30 s.
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let health = service.get("/api/health").await;
    assert_eq!(health.status(), 503);
    let health: serde_json::Value = health.json().await.unwrap();
    assert_eq!(health["control_database"], "not configured");
    // The host takes 0 for intended and would never start it again.
    assert_eq!(service.stop().await, Some(130));
}

/// The app with servers and queues, but without a host: what is begun stays where it is.
async fn unhosted(gap: &Gap, azurite: &Azurite) -> Service {
    let (base, head) = (gap.base.url(Role::Admin), gap.head.url(Role::Admin));
    let queues = azurite.connection_string();
    Service::start(&[
        ("DELTACOMPARE_BASE", base.as_str()),
        ("DELTACOMPARE_HEAD", head.as_str()),
        ("DELTACOMPARE_QUEUES", queues.as_str()),
    ])
    .await
}

async fn assert_problem(answer: Response, status: u16, says: &str) {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let code = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(code, status, "{problem:#}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], "about:blank");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(says), "{detail}");
}

async fn id_of(answer: Response) -> String {
    let (status, location) = (answer.status(), answer.headers().get("location").cloned());
    let begun: Value = answer.json().await.unwrap();
    assert_eq!(status, 202, "{begun:#}");
    let id = begun["id"].as_str().unwrap().to_owned();
    assert_eq!(location.unwrap(), format!("/api/recoveries/{id}"));
    id
}

async fn what_cannot_be_used_is_a_problem_that_says_what_to_do() {
    let service = Service::start(&[]).await;
    assert_problem(service.get("/api/nothing").await, 404, "nothing at this address").await;
    let deleted = service.request("DELETE", "/api/recoveries").send().await.unwrap();
    assert_eq!(deleted.headers()["allow"].to_str().unwrap(), "GET,HEAD,POST");
    assert_problem(deleted, 405, "another method").await;
    let start = |body: &str, content_type: &'static str| {
        let request = service.request("POST", "/api/recoveries");
        request.header("content-type", content_type).body(body.to_owned()).send()
    };
    const JSON: &str = "application/json";
    for (body, content_type, status, says) in [
        ("{}", "text/plain", 415, "Content-Type: application/json"),
        ("{", JSON, 400, "line 1 column 1"),
        ("[]", JSON, 400, "cannot be used"),
        (r#"{"sink": "delta-table"}"#, JSON, 400, "no field `sink`; did you mean sinks?"),
        (r#"{"format": "csv"}"#, JSON, 400, "`format` must be debezium or landing"),
        (r#"{"parallel": "8"}"#, JSON, 400, "`parallel` must be a whole number from 1 to 256"),
        (r#"{"dry_run": true}"#, JSON, 400, "no field `dry_run`"),
        (r#"{"tables": ["orders"]}"#, JSON, 400, "schema.table"),
        (r#"{"lost_at_lsn": "x"}"#, JSON, 400, "not an LSN"),
        ("{\"database\": \"a\\u0000b\"}", JSON, 400, "U+0000"),
        (r#"{"sinks": ["kafka:x"]}"#, JSON, 400, "not a sink"),
    ] {
        assert_problem(start(body, content_type).await.unwrap(), status, says).await;
    }
    assert_problem(start(&" ".repeat(33 << 20), JSON).await.unwrap(), 413, "whole").await;
    for (setting, value, says) in [
        ("DELTACOMPARE_PARALLEL", "0", "DELTACOMPARE_PARALLEL cannot be used: 0 is not in 1..=256"),
        ("DELTACOMPARE_STRATEGY", "quick", "DELTACOMPARE_STRATEGY cannot be used: it takes auto, "),
        ("DELTACOMPARE_DEBEZIUM", "topic.prefix=", "DELTACOMPARE_DEBEZIUM cannot be used: topic"),
        ("DELTACOMPARE_BASE_SECRET", "x", "the setting DELTACOMPARE_VAULT is missing"),
    ] {
        let service = Service::start(&[
            (setting, value),
            ("DELTACOMPARE_BASE", "postgres://u@127.0.0.1:1/d"),
            ("DELTACOMPARE_HEAD", "postgres://u@127.0.0.1:1/d"),
        ])
        .await;
        let plan = service.request("POST", "/api/plan").json(&json!({})).send().await.unwrap();
        assert_problem(plan, 422, says).await;
    }
    // Settings are missing, and each is named.
    let body = r#"{"sinks": ["delta-table"]}"#;
    assert_problem(start(body, JSON).await.unwrap(), 422, "DELTACOMPARE_QUEUES").await;
    assert_problem(service.get("/api/recoveries").await, 422, "DELTACOMPARE_BASE").await;
    let unknown = service.get("/api/recoveries/seven").await;
    assert_problem(unknown, 404, "there is no recovery seven").await;
}

async fn a_recovery_is_begun_once() {
    let gap = Gap::between("create table t (id int primary key)", "insert into t values (1)").await;
    let azurite = Azurite::shared().unwrap();
    let service = unhosted(&gap, &azurite).await;
    let start = |key: &'static str, body: Value| {
        service.request("POST", "/api/recoveries").header("idempotency-key", key).json(&body).send()
    };
    let body = json!({"sinks": ["delta-table"], "tables": ["public.t"]});
    for (unusable, says) in [
        (json!({"sinks": ["ndjson:/tmp/x"]}), "writes no files"),
        (json!({}), "`sinks` is missing"),
        (
            json!({"sinks": ["delta-table"], "tables": ["a.b"], "exclude": ["a.b"]}),
            "both in `tables` and in `exclude`",
        ),
    ] {
        assert_problem(start("one", unusable).await.unwrap(), 422, says).await;
    }
    let first = id_of(start("one", body.clone()).await.unwrap()).await;
    // The same key and body: the same answer, also when the body's fields come in another order.
    let reordered = service
        .request("POST", "/api/recoveries")
        .header("idempotency-key", "one")
        .header("content-type", "application/json")
        .body(r#"{ "tables": ["public.t"], "sinks": ["delta-table"] }"#);
    assert_eq!(id_of(reordered.send().await.unwrap()).await, first);
    let other = start("one", json!({"sinks": ["delta-table"]})).await.unwrap();
    assert_problem(other, 422, "another body").await;
    let live = start("two", body.clone()).await.unwrap();
    assert_problem(live, 409, &format!("recovery {first} is live")).await;
    let beside = json!({"sinks": ["delta-table"], "allow_concurrent": true});
    let second = id_of(start("three", beside).await.unwrap()).await;
    assert_ne!(second, first);
    // Another database is none of theirs.
    let elsewhere = json!({"sinks": ["delta-table"], "database": "template1"});
    let third = id_of(start("four", elsewhere).await.unwrap()).await;

    let list: Value = service.get("/api/recoveries").await.json().await.unwrap();
    let ids: Vec<&str> = list["recoveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [&third, &second, &first]);
    let status: Value =
        service.get(&format!("/api/recoveries/{third}")).await.json().await.unwrap();
    assert_eq!(status["database"], "template1");
    assert_eq!(status["state"], "planning");
    assert!(!status.to_string().contains(gap.head.password(Role::Admin)), "{status:#}");
}

async fn lists_come_in_parts_and_with_a_tag() {
    let gap = Gap::between("create table t (id int primary key)", "insert into t values (1)").await;
    let azurite = Azurite::shared().unwrap();
    let service = unhosted(&gap, &azurite).await;
    let body = json!({"sinks": ["delta-table"], "allow_concurrent": true});
    let mut begun = Vec::new();
    for _ in 0..5 {
        let answer = service.request("POST", "/api/recoveries").json(&body).send().await.unwrap();
        begun.insert(0, id_of(answer).await);
    }
    // The host hands the function key on.
    let mut next = Some("/api/recoveries?limit=2&code=k".to_owned());
    let mut listed = Vec::new();
    while let Some(path) = next {
        let part: Value = service.get(&path).await.json().await.unwrap();
        let ids = part["recoveries"].as_array().unwrap();
        assert!(ids.len() <= 2);
        listed.extend(ids.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        next = part["next_offset"]
            .as_u64()
            .map(|offset| format!("/api/recoveries?limit=2&offset={offset}"));
    }
    assert_eq!(listed, begun);
    for wrong in ["limit=0", "limit=1001", "limit=x", "offset=-1", "page=2", "limit=1&limit=2"] {
        let answer = service.get(&format!("/api/recoveries?{wrong}")).await;
        assert_problem(answer, 400, "limit").await;
    }

    let path = format!("/api/recoveries/{}", begun[0]);
    let tag = service.get(&path).await.headers()["etag"].clone();
    let asked_again =
        async || service.request("GET", &path).header("if-none-match", &tag).send().await.unwrap();
    let unchanged = asked_again().await;
    assert_eq!(unchanged.status(), 304);
    assert_eq!(unchanged.headers()["etag"], tag);
    assert_eq!(unchanged.bytes().await.unwrap().len(), 0);
    let cancelled =
        service.request("POST", &format!("{path}/cancel")).json(&json!({})).send().await.unwrap();
    assert_eq!(cancelled.status(), 200);
    let changed = asked_again().await;
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"], tag);
}

async fn the_document_describes_every_http_function_and_request() {
    let service = Service::start(&[]).await;
    let document: Value = service.get("/api/openapi.json").await.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(move |(method, operation)| {
                let name = operation["operationId"].as_str().unwrap();
                let keyless = operation["security"] == json!([{}]);
                format!("{method} {path} {name} {}", !keyless)
            })
        })
        .collect();
    let functions: BTreeSet<String> = FUNCTIONS
        .iter()
        .filter_map(|function| match function.trigger {
            // That of a `head` is the answer to a `get` without its body.
            Trigger::Http { methods, route, key } => {
                Some(format!("{} /api/{route} {} {key}", methods[0], function.name))
            }
            _ => None,
        })
        .collect();
    assert_eq!(described, functions);

    // Requests have the fields that docs/cli.md names.
    let fields: BTreeSet<&str> = document["components"]["schemas"]["RecoveryRequest"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let cells = CLI.lines().filter(|line| line.starts_with("| `--"));
    let cells = cells.filter_map(|line| line.split(" | ").nth(3));
    let documented: BTreeSet<&str> =
        cells.map(|cell| cell.trim_matches(['`', ' '])).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(fields, documented);
}

/// The host hands a path on in the caller's spelling, and answers a broken connection with a 500.
async fn through_the_host_every_spelling_and_size_is_answered() {
    let gap = Gap::between("create table t (id int primary key)", "insert into t values (1)").await;
    let app = Hosted::start(&gap, 1, &[]).await;
    for page in ["/api/dashboard/", "/api/Dashboard", "/API/DashBoard/x/"] {
        let answer = app.get(page).await;
        assert_eq!(answer.status(), 200, "{page}");
        assert!(answer.text().await.unwrap().contains("<html"), "{page}");
    }
    assert_eq!(app.get("/api/Recoveries/?limit=1").await.status(), 200);
    for probed in ["/api/health", "/api/Health/", "/api/dashboard"] {
        let answer = app.request(Method::HEAD, probed).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{probed}");
        assert!(answer.text().await.unwrap().is_empty(), "{probed}");
    }
    for megabytes in [33, 90] {
        let answer = app
            .request(Method::POST, "/api/recoveries")
            .header("content-type", "application/json")
            .body(" ".repeat(megabytes << 20))
            .send()
            .await
            .unwrap();
        assert_problem(answer, 413, "it may have 32 MB").await;
    }
}

/// A host that is killed, or waits no longer for an invocation, leaves its handler: the handler ends, and
/// gives back what it was at with all that is delivered.
async fn a_handler_does_not_outlive_its_host() {
    let gap = Gap::between(&schema(30_000), &changes(7)).await;
    let azurite = Azurite::shared().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The shell is the host: it starts the handler and waits for it.
    let mut host = tokio::process::Command::new("sh")
        .args(["-c", "\"$0\" serve & echo $!; wait", env!("CARGO_BIN_EXE_deltacompare")])
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("DELTACOMPARE_BASE", gap.base.url(Role::Admin))
        .env("DELTACOMPARE_HEAD", gap.head.url(Role::Admin))
        .env("DELTACOMPARE_QUEUES", azurite.connection_string())
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(host.stdout.take().unwrap());
    let mut handler = String::new();
    said.read_line(&mut handler).await.unwrap();
    let handler = format!("/proc/{}", handler.trim());
    let service = Service::at(port).await;
    let post = async |path: &str, body: Value| {
        service.request("POST", path).json(&body).send().await.unwrap()
    };
    let mut asked = request("content");
    asked["range_blocks"] = json!(100_000);
    let id = id_of(post("/api/recoveries", asked).await).await;
    let message = |body: Value| json!({"Data": {"message": body}, "Metadata": {}});
    slow_down(&gap, 0.4).await;
    let planned = post("/PlanRecovery", message(json!({"recovery": id}))).await;
    assert_eq!(planned.status(), 200, "{}", planned.text().await.unwrap());
    let batch: i32 = gap
        .head
        .value("select batch from deltacompare.work_item where table_name = 'orders'")
        .await
        .unwrap();
    let mut working = tokio::spawn(
        service
            .request("POST", "/DiffTable")
            .json(&message(json!({"recovery": id, "item": batch})))
            .send(),
    );
    let stored = "select exists (select from deltacompare.work_item where checkpoint is not null)";
    until(&gap, stored).await;

    // Its pipes break with it, and so does the call.
    drop(said);
    host.kill().await.unwrap();
    working.abort();
    let _ = (&mut working).await;
    let since = Instant::now();
    while std::path::Path::new(&handler).exists() {
        assert!(since.elapsed() < Duration::from_secs(15), "it lives on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::println!("the handler ended {:.1?} after its host", since.elapsed());
    let (state, leased, failures, tells): (String, bool, i32, i64) = gap
        .head
        .rows(
            "select state, lease_until is not null, failures, inserts + updates + deletes
               from deltacompare.work_item where table_name = 'orders'",
        )
        .await
        .unwrap()
        .remove(0);
    assert_eq!((state.as_str(), leased, failures), ("pending", false, 0));
    let delivered: i64 = gap.head.value("select count(*) from deltacompare.delta").await.unwrap();
    assert_eq!(tells, delivered, "what the sink has acknowledged is not told");

    // And it goes on from there.
    let rest = deltacompare(&gap, &["run", "--resume", &id]).run().await;
    rest.assert_completed();
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &TABLES, &events).await;
}

/// The Watchdog fails, and so alerts, only where a recovery may be missing it.
async fn the_watchdog_is_quiet_where_nothing_is_configured() {
    let service = Service::start(&[]).await;
    let tick = json!({"Data": {"timer": {"IsPastDue": false}}, "Metadata": {}});
    let answer = service.request("POST", "/Watchdog").json(&tick).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.json::<Value>().await.unwrap().is_object());
    // Named, and not there.
    let nowhere = "postgres://user:secret@127.0.0.1:1/shop?sslmode=disable";
    let servers = [("DELTACOMPARE_BASE", nowhere), ("DELTACOMPARE_HEAD", nowhere)];
    let service = Service::start(&servers).await;
    let answer = service.request("POST", "/Watchdog").json(&tick).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// Through the host, as callers meet it; so another method is not a known function there. What is
/// well formed may be refused for what the servers are like.
async fn a_fuzzer_finds_no_answer_that_the_document_does_not_describe() {
    let gap = Gap::between("create table t (id int primary key)", "insert into t values (1)").await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings =
        "[checks.positive_data_acceptance]\nexpected-statuses = [\"2xx\", 401, 404, 409, 422]\n";
    std::fs::write(folder.path().join("schemathesis.toml"), settings).unwrap();
    let fuzzed = tokio::process::Command::new(schemathesis().unwrap())
        .arg("run")
        .arg(format!("{}/api/openapi.json", app.host.url()))
        .arg("--header")
        .arg(format!("x-functions-key: {}", app.host.host_key()))
        .args(["--checks", "all", "--exclude-checks", "unsupported_method"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--workers", "2"])
        .args(["--seed", "1", "--continue-on-failure", "--suppress-health-check", "all"])
        .current_dir(folder.path())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&fuzzed.stdout);
    assert!(fuzzed.status.success(), "{said}\n{}", app.said());
    println!("{said}");
}

/// The servers take some seconds to say how they are: a plan takes longer than a caller waits.
const SLOW: &str = "
    set allow_system_table_mods = on;
    create or replace view pg_catalog.pg_prepared_xacts as
      select p.transaction, p.gid, p.prepared, u.rolname as owner, d.datname as database
        from pg_prepared_xact() as p
        left join pg_authid u on p.ownerid = u.oid
        left join pg_database d on p.dbid = d.oid
       where (select count(*) from pg_sleep(11)) = 1";

/// The same question leads to one plan, whichever instance it comes to, and any instance answers.
async fn a_plan_that_takes_long_is_asked_for_again() {
    let gap = Gap::between(
        "create table t (id int primary key); create table u (id int primary key);
         create publication p for all tables",
        "insert into t values (1)",
    )
    .await;
    let plain: Value = {
        let plan = deltacompare(&gap, &["plan", "--table", "public.t", "--json"]).run().await;
        plan.assert_completed();
        serde_json::from_str(&plan.stdout).unwrap()
    };
    for server in [&gap.base, &gap.head] {
        server.sql(SLOW).await.unwrap();
    }
    let (base, head) = (gap.base.url(Role::Admin), gap.head.url(Role::Admin));
    let settings = [("DELTACOMPARE_BASE", base.as_str()), ("DELTACOMPARE_HEAD", head.as_str())];
    let (one, other) = tokio::join!(Service::start(&settings), Service::start(&settings));
    let ask = async |service: &Service, body: &Value| {
        let answer = service.request("POST", "/api/plan").json(body).send().await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(answer.status(), 202);
        assert_eq!(header("retry-after"), "5");
        let location = header("location");
        let pending: Value = answer.json().await.unwrap();
        assert_eq!(location, format!("/api/plan/{}", pending["plan_id"].as_str().unwrap()));
        location
    };
    let body = json!({"tables": ["public.t"]});
    let since = Instant::now();
    let (first, again, elsewhere) =
        tokio::join!(ask(&one, &body), ask(&one, &body), ask(&other, &body));
    assert!(since.elapsed() < Duration::from_secs(24), "{:?}", since.elapsed());
    assert_eq!((&first, &first), (&again, &elsewhere));
    let one_worker = "select count(*) = 1 from deltacompare.asked_plan";
    assert!(gap.head.value::<bool>(one_worker).await.unwrap());
    let made = async |service: &Service, location: &str| -> Value {
        loop {
            let answer = service.get(location).await;
            match answer.status().as_u16() {
                202 => tokio::time::sleep(Duration::from_millis(200)).await,
                200 => return answer.json().await.unwrap(),
                other => panic!("{other}: {}", answer.text().await.unwrap()),
            }
        }
    };
    let (here, there) = tokio::join!(made(&one, &first), made(&other, &first));
    assert_eq!(here, there);
    assert_eq!(here["tables"], plain["tables"]);
    assert_problem(one.get("/api/plan/seven").await, 404, "there is no plan seven").await;
    // A refusal is an answer too. Its process ends meanwhile, and another one makes the plan.
    let body = json!({"tables": ["public.nothing"]});
    let lost = ask(&one, &body).await;
    one.stop().await;
    gap.head
        .sql("update deltacompare.asked_plan set lease_until = clock_timestamp() where ended_at is null")
        .await
        .unwrap();
    let refused = loop {
        let answer = other.get(&lost).await;
        if answer.status() != 202 {
            break answer;
        }
    };
    assert_problem(refused, 422, "public.nothing").await;
    // The command line waits for it.
    let shown = deltacompare(&gap, &["plan", "--app", &other.url(""), "--json"]).run().await;
    shown.assert_completed();
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["tables"].as_array().unwrap().len(), 2);
}

tests! {
    it_answers_at_once_before_anything_is_configured: own_servers,
    what_cannot_be_used_is_a_problem_that_says_what_to_do: own_servers,
    through_the_host_every_spelling_and_size_is_answered,
    a_handler_does_not_outlive_its_host,
    the_watchdog_is_quiet_where_nothing_is_configured: own_servers,
    a_recovery_is_begun_once,
    lists_come_in_parts_and_with_a_tag,
    the_document_describes_every_http_function_and_request: own_servers,
    a_fuzzer_finds_no_answer_that_the_document_does_not_describe: seconds(600),
    a_plan_that_takes_long_is_asked_for_again: seconds(300),
}
