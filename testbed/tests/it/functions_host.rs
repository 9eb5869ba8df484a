//! The stand-in for the Functions host, against a handler that does what a message tells it, and
//! real Azurite.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use deltacompare_testbed::Azurite;
use deltacompare_testbed::functions_host::{
    DataEncoding, FunctionsHost, HostOptions, Level, Queue,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An app with one function of each kind, and its queue.
struct App {
    folder: TempDir,
    azurite: Azurite,
    queue: Queue,
}

impl App {
    async fn new() -> Result<Self> {
        Self::with(json!({})).await
    }

    /// With these settings of `extensions.queues`, and a time-out of two seconds.
    async fn with(queues: Value) -> Result<Self> {
        let folder = TempDir::new()?;
        let write = |name: &str, text: String| -> Result<()> {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().context("a file in a folder")?)?;
            Ok(std::fs::write(path, text)?)
        };
        let mut settings = json!({
            "maxPollingInterval": "00:00:01", "visibilityTimeout": "00:00:01", "maxDequeueCount": 3,
            "batchSize": 2, "newBatchThreshold": 0,
        });
        let own = queues.as_object().context("settings")?.clone();
        settings.as_object_mut().context("settings")?.extend(own);
        let host = json!({
            "version": "2.0",
            "functionTimeout": "00:00:02",
            "customHandler": {
                "description": { "defaultExecutablePath": "handler.mjs" },
                "enableForwardingHttpRequest": true,
            },
            "extensions": { "queues": settings },
            "extensionBundle": {
                "id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)",
            },
        });
        write("host.json", host.to_string())?;
        write("handler.mjs", include_str!("functions_host/handler.mjs").to_owned())?;
        let program = folder.path().join("handler.mjs");
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))?;
        let http = |route: &str, level: &str| {
            json!({ "bindings": [
                { "type": "httpTrigger", "direction": "in", "name": "request", "route": route,
                  "methods": ["post"], "authLevel": level },
                { "type": "http", "direction": "out", "name": "response" },
            ]})
        };
        let queue = |queue: &str| {
            json!({ "bindings": [{ "type": "queueTrigger", "direction": "in", "name": "message",
                "queueName": queue, "connection": "QUEUES" }]})
        };
        let timer = json!({ "bindings": [{ "type": "timerTrigger", "direction": "in",
            "name": "timer", "schedule": "*/1 * * * * *" }]});
        write("Closed/function.json", http("things/{id}", "function").to_string())?;
        write("Other/function.json", http("other", "function").to_string())?;
        write("Open/function.json", http("open", "anonymous").to_string())?;
        write("Work/function.json", queue("work").to_string())?;
        write("Poison/function.json", queue("work-poison").to_string())?;
        write("Tick/function.json", timer.to_string())?;
        let azurite = Azurite::shared()?;
        let queue = Queue::connect(&azurite.connection_string(), "work").await?;
        Ok(Self { folder, azurite, queue })
    }

    fn options(&self) -> HostOptions {
        let seen = self.folder.path().join("seen");
        HostOptions {
            settings: BTreeMap::from([
                ("QUEUES".to_owned(), self.azurite.connection_string()),
                ("SEEN".to_owned(), seen.display().to_string()),
            ]),
            lease: Duration::from_secs(4),
            ..HostOptions::default()
        }
    }

    async fn start(&self, options: HostOptions) -> Result<FunctionsHost> {
        let host = FunctionsHost::start(self.folder.path(), options).await?;
        host.ready().await?;
        Ok(host)
    }

    async fn send(&self, message: Value) -> Result<()> {
        self.queue.send(&STANDARD.encode(message.to_string())).await
    }

    /// The requests for a function that the handlers have seen.
    fn seen(&self, path: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("seen")).unwrap_or_default();
        let requests = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        requests.filter(|request: &Value| request["url"] == path).collect()
    }

    fn payloads(&self, path: &str) -> Vec<Value> {
        let body = |request: &Value| serde_json::from_str(request["body"].as_str()?).ok();
        self.seen(path).iter().filter_map(body).collect()
    }
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_failed(host: &FunctionsHost, text: &str) -> bool {
    host.log().iter().any(|line| line.level == Level::Error && line.text.contains(text))
}

#[tokio::test]
async fn a_request_is_forwarded_without_what_the_host_loses() -> Result<()> {
    let app = App::new().await?;
    let host = app.start(app.options()).await?;
    let client = reqwest::Client::new();
    let (url, key) = (host.url(), host.host_key());
    let send = |path: &str| client.post(format!("{url}{path}"));
    for (path, status) in [
        ("/api/things/1", 401),
        ("/API/Things/1/", 401),
        ("/api/things", 404),
        ("/api/nothing", 404),
        ("/other/open", 404),
    ] {
        assert_eq!(send(path).send().await?.status(), status, "{path}");
    }
    assert_eq!(send("/api/open").send().await?.status(), 207);
    let other = host.function_key("Other").context("a key")?;
    assert_eq!(send(&format!("/api/other?code={other}")).send().await?.status(), 207);
    assert_eq!(send(&format!("/api/things/1?code={other}")).send().await?.status(), 401);
    let get = client.get(format!("{url}/api/open"));
    assert_eq!(get.send().await?.status(), 404);

    let answer = send("/api/Things/a%2Fb?x=1&y=%20")
        .header("x-functions-key", key)
        .header("X-Mine", "too")
        .header("Content-Encoding", "gzip")
        .body("text")
        .send()
        .await?;
    assert_eq!(answer.status(), 207);
    assert_eq!(answer.headers()["x-own"], "kept");
    assert_eq!(answer.headers()["location"], "/elsewhere");
    let seen: Value = answer.json().await?;
    assert_eq!(seen["url"], "/api/Things/a%2Fb?x=1&y=%20");
    assert_eq!(seen["body"], "text");
    assert_eq!(seen["headers"]["x-mine"], "too");
    assert!(seen["headers"]["user-agent"].as_str().context("an agent")?.contains("Functions-Host"));
    assert!(seen["headers"]["x-azure-functions-invocationid"].is_string());
    assert!(seen["headers"]["content-encoding"].is_null());

    // Its length not known at the beginning.
    let mut connection = TcpStream::connect(url.trim_start_matches("http://")).await?;
    let request = "POST /api/open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
        Connection: close\r\n\r\n4\r\ntext\r\n0\r\n\r\n";
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(app.seen("/api/open").iter().all(|it| it["headers"]["transfer-encoding"].is_null()));

    let typed = send("/api/open").header("Content-Type", "application/json").send().await?;
    assert!(typed.json::<Value>().await?["headers"]["content-type"].is_null());
    Ok(())
}

#[tokio::test]
async fn a_message_comes_in_each_encoding_and_its_fields_overwrite_metadata() -> Result<()> {
    let app = App::new().await?;
    let message = json!({ "id": 7, "DequeueCount": "mine" });
    let text = message.to_string();
    let encodings = [
        (DataEncoding::Object, message.clone()),
        (DataEncoding::Text, json!(text)),
        (DataEncoding::EncodedText, json!(json!(text).to_string())),
    ];
    for (number, (data, expected)) in encodings.into_iter().enumerate() {
        let host = app.start(HostOptions { data, ..app.options() }).await?;
        app.send(message.clone()).await?;
        until("it comes", || app.payloads("/Work").len() > number).await;
        let payload = app.payloads("/Work").remove(number);
        assert_eq!(payload["Data"]["message"], expected);
        assert_eq!(payload["Metadata"]["DequeueCount"], "\"mine\"");
        assert_eq!(payload["Metadata"]["id"], "7");
        let id = payload["Metadata"]["Id"].as_str().context("an id")?;
        assert!(serde_json::from_str::<String>(id).is_ok(), "{id}");
        until("it is deleted", || host.counts().deleted == 1).await;
        let own = |line: &str| host.log().iter().any(|l| l.by_handler && l.text == line);
        assert!(own("a line of its own") && own("on standard output"));
        host.stop().await;
    }
    assert_eq!(app.queue.len().await?, 0);
    Ok(())
}

#[tokio::test]
async fn lines_on_standard_error_alert() -> Result<()> {
    let app = App::new().await?;
    let host = app.start(app.options()).await?;
    let level = |text: &str| {
        host.log().iter().find(|line| line.by_handler && line.text == text).map(|line| line.level)
    };
    until("it said all", || level("WARN: on standard error").is_some()).await;
    assert_eq!(level("on standard output"), Some(Level::Information));
    assert_eq!(level("on standard error"), Some(Level::Error));
    assert_eq!(level("WARN: on standard error"), Some(Level::Warning));
    Ok(())
}

#[tokio::test]
async fn what_fails_comes_again_and_is_poison_in_the_end() -> Result<()> {
    let app = App::new().await?;
    let host = app.start(app.options()).await?;
    app.send(json!({ "then": "fail" })).await?;
    until("it is poison", || host.counts().poisoned == 1).await;
    // As often as maxDequeueCount says.
    let counts: Vec<Value> = app
        .payloads("/Work")
        .iter()
        .map(|payload| payload["Metadata"]["DequeueCount"].clone())
        .collect();
    assert_eq!(counts, ["1", "2", "3"]);
    until("the poison queue is read", || app.payloads("/Poison").len() == 1).await;

    // What cannot be decoded is never run: it goes to the poison queue, where it stays. Nobody but the
    // host tells of it.
    app.queue.send("no base64").await?;
    until("it is poison", || host.counts().poisoned == 2).await;
    let poison = Queue::connect(&app.azurite.connection_string(), "work-poison").await?;
    let told = |function: &str| {
        let told = format!("{function}: Azure.Storage.Queues.QueueServiceClient: ");
        let lines = host.log();
        lines.iter().filter(|it| it.level == Level::Warning && it.text.starts_with(&told)).count()
    };
    // When its lease is over, it is met once more.
    until("it is met in the poison queue twice", || told("Poison") >= 2).await;
    assert_eq!((told("Work"), poison.len().await?), (1, 1));
    assert_eq!((app.payloads("/Work").len(), app.payloads("/Poison").len()), (3, 1));
    Ok(())
}

#[tokio::test]
async fn a_handler_that_takes_too_long_or_answers_nothing_is_killed() -> Result<()> {
    for then in ["hang", "nothing"] {
        let app = App::with(json!({ "maxDequeueCount": 1 })).await?;
        let host = app.start(app.options()).await?;
        let first = host.handler_pid(1).context("a process")?;
        app.send(json!({ "then": then })).await?;
        until("it is given up", || is_failed(&host, "functionTimeout")).await;
        until("another is there", || host.handler_pid(1).is_some_and(|pid| pid != first)).await;
        assert!(!Path::new(&format!("/proc/{first}")).exists());
        until("it is poison", || host.counts().poisoned == 1).await;
    }
    Ok(())
}

#[tokio::test]
async fn exit_codes_decide_about_a_restart() -> Result<()> {
    // 0 is taken for intended: nothing works any more.
    let app = App::new().await?;
    let host = app.start(app.options()).await?;
    app.send(json!({ "then": "exit", "code": 0 })).await?;
    until("it is given up", || is_failed(&host, "exited with 0")).await;
    let client = reqwest::Client::new();
    assert_eq!(client.post(format!("{}/api/open", host.url())).send().await?.status(), 503);
    drop(host);

    // 200 asks for it, however often; others are counted.
    for (code, restarts) in [(200, 5), (3, 2)] {
        let app = App::with(json!({ "maxDequeueCount": 1 })).await?;
        let host = app.start(app.options()).await?;
        for _ in 0..restarts {
            let pid = host.handler_pid(1).context("a process")?;
            app.send(json!({ "then": "exit", "code": code })).await?;
            until("another is there", || host.handler_pid(1).is_some_and(|new| new != pid)).await;
        }
        if code == 3 {
            app.send(json!({ "then": "exit", "code": code })).await?;
            until("it is given up", || is_failed(&host, "crashed 3 times")).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_instances_message_comes_back_when_its_lease_is_over() -> Result<()> {
    let app = App::new().await?;
    let mut host = app.start(app.options()).await?;
    app.send(json!({ "then": "wait", "ms": 1900 })).await?;
    until("it runs", || app.payloads("/Work").len() == 1).await;
    let pid = host.handler_pid(1).context("a process")?;
    host.kill_instance(1).await;
    let since = Instant::now();
    until("its handler is gone", || !Path::new(&format!("/proc/{pid}")).exists()).await;
    assert_eq!(host.add_instance(), 2);
    until("it comes back", || app.payloads("/Work").len() == 2).await;
    assert!(since.elapsed() > Duration::from_millis(2500), "{:?}", since.elapsed());
    until("it is done", || host.counts().deleted == 1).await;
    assert_eq!(app.payloads("/Work")[1]["Metadata"]["DequeueCount"], "2");
    Ok(())
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_function_runs() -> Result<()> {
    let app = App::new().await?;
    let host = app.start(HostOptions { lease: Duration::from_secs(1), ..app.options() }).await?;
    app.send(json!({ "then": "wait", "ms": 1900 })).await?;
    until("it is done", || host.counts().deleted == 1).await;
    assert!(host.counts().renewed >= 2);
    assert_eq!(app.payloads("/Work").len(), 1);
    assert_eq!(app.queue.len().await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_instance_runs_no_more_at_once_than_batch_and_threshold_say() -> Result<()> {
    let app = App::with(json!({ "batchSize": 3, "newBatchThreshold": 1 })).await?;
    for _ in 0..20 {
        app.send(json!({ "then": "wait", "ms": 300 })).await?;
    }
    let host = app.start(HostOptions { instances: 2, ..app.options() }).await?;
    let mut most = 0;
    until("all are done", || {
        let counts = host.counts();
        most = most.max(counts.received - counts.deleted);
        counts.deleted == 20
    })
    .await;
    assert!((5..=8).contains(&most), "{most}");
    let pids: std::collections::BTreeSet<String> =
        app.seen("/Work").iter().map(|request| request["pid"].to_string()).collect();
    assert_eq!(pids.len(), 2, "both instances work");
    Ok(())
}

#[tokio::test]
async fn an_instance_that_is_scaled_in_ends_what_it_has() -> Result<()> {
    let app = App::new().await?;
    let host = app.start(app.options()).await?;
    app.send(json!({ "then": "wait", "ms": 1000 })).await?;
    until("it runs", || app.payloads("/Work").len() == 1).await;
    host.drain_instance(1, Duration::from_secs(30)).await;
    assert_eq!(host.counts().deleted, 1);
    assert_eq!(app.queue.len().await?, 0);
    Ok(())
}

#[tokio::test]
async fn one_instance_has_the_clock_and_another_takes_it_over_late() -> Result<()> {
    let app = App::new().await?;
    let options = HostOptions {
        instances: 3,
        timer_lease: Duration::from_secs(2),
        timer_look: Duration::from_secs(3),
        ..app.options()
    };
    let mut host = app.start(options).await?;
    until("it ticks", || app.payloads("/Tick").len() >= 3).await;
    let pids = || -> Vec<u64> {
        app.seen("/Tick").iter().filter_map(|tick| tick["pid"].as_u64()).collect()
    };
    let first = pids();
    assert!(first.iter().all(|pid| *pid == first[0]), "more than one instance ticks: {first:?}");
    assert_eq!(app.payloads("/Tick")[0]["Data"]["timer"]["IsPastDue"], false);
    assert!(app.payloads("/Tick")[0]["Data"]["timer"]["ScheduleStatus"].is_null());

    let numbers = host.instance_numbers();
    let holder = numbers.iter().find(|it| host.handler_pid(**it).map(u64::from) == Some(first[0]));
    host.kill_instance(*holder.context("nobody has the clock")?).await;
    let since = Instant::now();
    let before = pids().len();
    until("another one ticks", || pids().len() > before).await;
    assert!(since.elapsed() >= Duration::from_secs(2), "{:?}", since.elapsed());
    assert_ne!(pids().last(), Some(&first[0]));

    // Nobody is left; a new one looks for the lock at once.
    for number in host.instance_numbers() {
        host.kill_instance(number).await;
    }
    let before = pids().len();
    tokio::time::sleep(Duration::from_secs(4)).await;
    host.add_instance();
    until("the new one ticks", || pids().len() > before).await;
    Ok(())
}

#[tokio::test]
async fn calls_come_with_an_id_and_a_trace_that_is_not_sampled() -> Result<()> {
    for insights in [true, false] {
        let app = App::new().await?;
        let options = HostOptions { application_insights: insights, ..app.options() };
        let _host = app.start(options).await?;
        app.send(json!({})).await?;
        until("it is called", || !app.seen("/Work").is_empty() && !app.seen("/Tick").is_empty())
            .await;
        for call in app.seen("/Work").iter().chain(&app.seen("/Tick")) {
            let header = |name: &str| call["headers"][name].as_str();
            assert!(header("x-azure-functions-invocationid").is_some(), "{call:#}");
            let traced =
                header("traceparent").is_some_and(|it| it.len() == 55 && it.ends_with("-00"));
            assert_eq!(traced, insights, "{call:#}");
        }
    }
    Ok(())
}
