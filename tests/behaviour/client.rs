//! The client, as an operator and a script use it, against the packaged app.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Gap, Hosted};

const KEYLESS: &str = "";

/// How a command ended.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    /// What it printed, which is one document.
    fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}", self.stdout))
    }
}

fn command(url: &str, key: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltacompare"));
    command
        .args(arguments)
        .env("DELTACOMPARE_APP", url)
        .env("DELTACOMPARE_APP_KEY", key)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn say(url: &str, key: &str, arguments: &[&str]) -> Said {
    let output = command(url, key, arguments).output().await.unwrap();
    let said = Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    if !key.is_empty() {
        assert!(!said.stdout.contains(key) && !said.stderr.contains(key), "the key was shown");
    }
    said
}

const BEFORE: &str = "create table orders (id int primary key, v text);
    create table customers (id int primary key, v text);
    insert into orders select i, 'v' from generate_series(1, 1000) i;
    insert into customers select i, 'v' from generate_series(1, 1000) i;
    create publication shop for all tables";
const DURING: &str = "update orders set v = 'w' where id <= 10; delete from orders where id > 995;
    update customers set v = 'w' where id = 1";

async fn a_recovery_is_begun_watched_retried_and_cancelled_from_a_terminal() {
    let gap = Gap::between(BEFORE, DURING).await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let (url, key) = (app.host.url(), app.host.host_key().to_owned());
    let say = async |arguments: &[&str]| say(&url, &key, arguments).await;
    assert_eq!(say(&["status", "--json"]).await.json(), json!({"recoveries": []}));
    let plan = say(&["plan", "--table", "public.orders", "--json"]).await.json();
    assert_eq!(plan["tables"].as_array().unwrap().len(), 1, "{plan:#}");
    let shown = say(&["plan"]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for part in [
        "public.orders",
        "public.customers",
        "2 tables",
        "gap: not provable",
        "with 4 at once",
        "events: as a rule about ",
        "new slot: ",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    assert!(!shown.stdout.contains("throughput units"), "{}", shown.stdout);
    // A plan takes what start takes, and is of that recovery.
    let hub = ["plan", "--parallel", "8", "--sink", "event-hub:shop/orders", "--json"];
    let of_hub = say(&hub).await.json();
    assert_eq!(of_hub["parallel"], 8);
    assert!(of_hub["event_hub"]["units"].as_u64().is_some(), "{of_hub:#}");
    assert!(plan["event_hub"].is_null(), "{plan:#}");
    assert!(of_hub["events"]["most"].as_u64().unwrap() > 0, "{of_hub:#}");
    let both = ["plan", "--app", &url, "--base", "postgres://u@h/d"];
    let refused = say(&both).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("say on the command line which one"), "{}", refused.stderr);

    // One table fails.
    gap.head
        .sql(
            "create function public.no() returns trigger language plpgsql as
               $$ begin raise check_violation using message = 'not customers'; end $$;
             create trigger no before insert on deltacompare.delta for each row
               when (new.table_name = 'customers') execute function public.no()",
        )
        .await
        .unwrap();
    let options = ["start", "--sink", "delta-table", "--format", "landing", "--parallel", "2"];
    let with_key = [&options[..], &["--idempotency-key", "k1", "--json"]].concat();
    let begun = say(&with_key).await.json();
    let id = begun["id"].as_str().unwrap();
    assert_eq!(say(&with_key).await.json(), begun, "the same key is the same recovery");
    let watched = say(&["watch", id]).await;
    assert_eq!(watched.code, Some(1), "{}", watched.stderr);
    for part in ["failed: public.customers: ", "not customers", &format!("recovery {id} failed")] {
        assert!(watched.stdout.contains(part), "{part}: {}", watched.stdout);
    }
    assert!(watched.stderr.contains(&format!("deltacompare retry {id}")), "{}", watched.stderr);
    let asked = app.status(id).await["request"].clone();
    assert_eq!((&asked["parallel"], &asked["format"]), (&json!(2), &json!("landing")), "{asked:#}");

    gap.head.sql("drop function public.no() cascade").await.unwrap();
    let retried = say(&["retry", id, "--watch", "--json"]).await;
    assert_eq!(retried.code, Some(0), "{}", retried.stderr);
    // A document each time that something had changed, the last one says how it ended.
    let documents: Vec<Value> =
        retried.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents.last().unwrap()["state"], "completed");
    let tables = say(&["tables", id, "--json"]).await.json();
    let orders = tables["tables"].as_array().unwrap().iter().find(|it| it["table"] == "orders");
    let orders = orders.unwrap();
    assert_eq!((&orders["updates"], &orders["deletes"]), (&json!(10), &json!(5)), "{orders:#}");
    let again = say(&["retry", id]).await;
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("has not failed"), "{}", again.stderr);

    // A second one, slow enough to be cancelled.
    gap.head
        .sql(
            "create function public.slow() returns trigger language plpgsql as
               $$ begin perform pg_sleep(3); return new; end $$;
             create trigger slow before insert on deltacompare.delta
               for each row execute function public.slow()",
        )
        .await
        .unwrap();
    let begun = say(&options).await;
    assert_eq!(begun.code, Some(0), "{}", begun.stderr);
    let id = begun.stdout.split_whitespace().nth(1).unwrap();
    assert!(begun.stdout.contains(&format!("{url}/api/dashboard/{id}")), "{}", begun.stdout);
    let refused = say(&options).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains(&format!("recovery {id} is live")), "{}", refused.stderr);
    // Who has seen enough ends nothing but the watching.
    let child = command(&url, &key, &["watch", id]).spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let interrupted = child.wait_with_output().await.unwrap();
    assert_eq!(interrupted.status.code(), Some(130));
    let state = say(&["status", id, "--json"]).await.json()["state"].clone();
    assert!(state == "planning" || state == "running", "{state}");
    let cancelled = say(&["cancel", id]).await;
    assert!(cancelled.stdout.contains(&format!("recovery {id} cancelled")), "{}", cancelled.stdout);
    let listed = say(&["status"]).await;
    assert!(listed.stdout.contains("cancelled") && listed.stdout.contains("completed"));
    assert_eq!(say(&["watch", id]).await.code, Some(1));
}

async fn every_option_of_start_is_one_of_the_app() {
    let gap = Gap::between(BEFORE, DURING).await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let recorded =
        crate::support::deltacompare(&gap, &["record", "--file", record.to_str().unwrap()]);
    assert_eq!(recorded.run().await.code, Some(0));
    let described: Value = app.get("/api/openapi.json").await.json().await.unwrap();
    let known = described["components"]["schemas"]["RecoveryRequest"]["properties"]
        .as_object()
        .unwrap()
        .clone();
    // What the API has in the plural may be said again and again.
    let help = say(&app.host.url(), app.host.host_key(), &["start", "--help"]).await.stdout;
    let said: Vec<String> = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--")?.split([' ', '=']).next())
        .filter(|name| !["app", "json", "watch", "idempotency-key", "ndjson-keys"].contains(name))
        .map(|name| name.replace('-', "_"))
        .map(|name| match name.as_str() {
            "publication" | "table" | "sink" => format!("{name}s"),
            _ => name,
        })
        .collect();
    assert!(said.len() > 25, "{said:?}");
    for name in &said {
        assert!(known.contains_key(name), "--{name} is nothing to the app");
    }
    for name in known.keys() {
        assert!(said.contains(name), "{name} cannot be said to start");
    }
    // And they arrive: a record is read here, and compared there.
    let file = record.to_str().unwrap();
    let plan = say(&app.host.url(), app.host.host_key(), &["plan", "--recorded", file]).await;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
}

async fn what_cannot_work_is_said_with_the_next_step() {
    let gap = Gap::between("create table t (id int primary key)", "select 1").await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let (url, key) = (app.host.url(), app.host.host_key());
    let id = "00000000-0000-4000-8000-000000000000";
    for (url, key, arguments, code, parts) in [
        (
            url.as_str(),
            KEYLESS,
            &["status"][..],
            2,
            ["does not take the key", "DELTACOMPARE_APP_KEY"],
        ),
        (&url, "wrong", &["cancel", id], 2, ["does not take the key", "DELTACOMPARE_APP_KEY"]),
        (&url, key, &["status", id], 2, ["there is no recovery", "GET /api/recoveries"]),
        ("http://app.example", key, &["status"], 2, ["is not https", "https://<name>"]),
        (
            "https://app.example/?code=k",
            key,
            &["status"],
            2,
            ["more than an address", "DELTACOMPARE_APP_KEY"],
        ),
        ("http://127.0.0.1:9", key, &["status"], 1, ["does not answer", "check --app"]),
        (
            &url,
            key,
            &["start", "--sink", "ndjson:/tmp/events"],
            2,
            ["writes no files", "delta-table"],
        ),
    ] {
        let said = say(url, key, arguments).await;
        assert_eq!(said.code, Some(code), "{arguments:?}: {}", said.stderr);
        for part in parts {
            assert!(said.stderr.contains(part), "{arguments:?} {part}: {}", said.stderr);
        }
    }
}

async fn shells_and_man_know_the_program() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let completions = say("http://localhost", KEYLESS, &["completions", shell]).await;
        assert_eq!(completions.code, Some(0));
        for word in ["retry", "idempotency-key"] {
            assert!(completions.stdout.contains(word), "{shell}: {word}");
        }
    }
    let written = say("http://localhost", KEYLESS, &["man", folder.path().to_str().unwrap()]).await;
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let page = std::fs::read_to_string(folder.path().join("deltacompare-start.1")).unwrap();
    assert!(page.contains("idempotency\\-key"), "{page}");
    assert!(folder.path().join("deltacompare.1").exists());
    let gone = say("http://localhost", KEYLESS, &["man", "/nowhere/at/all"]).await;
    assert_eq!(gone.code, Some(2));
}

tests! {
    a_recovery_is_begun_watched_retried_and_cancelled_from_a_terminal,
    every_option_of_start_is_one_of_the_app,
    what_cannot_work_is_said_with_the_next_step,
    shells_and_man_know_the_program: own_servers,
}
