//! What is packaged is what the program has: every function's folder says to the Functions host
//! what the code says, and lies where the host looks for it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use deltacompare::app::bindings::{
    FUNCTIONS, Function, MESSAGE, POISON, QUEUE_CONNECTION, Trigger,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::package;

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The bindings of each folder at the root that holds a `function.json`: what the host finds.
fn found(app: &Path) -> BTreeMap<String, Value> {
    let files = |folder: PathBuf| (folder.clone(), folder.join("function.json"));
    std::fs::read_dir(app)
        .unwrap()
        .map(|entry| files(entry.unwrap().path()))
        .filter(|(_, file)| file.exists())
        .map(|(folder, file)| {
            (folder.file_name().unwrap().to_str().unwrap().to_owned(), json_of(&file))
        })
        .collect()
}

/// What the host must be told of a function.
fn told(function: &Function) -> Value {
    let bindings = match function.trigger {
        Trigger::Http { methods, route, key } => json!([
            {
                "type": "httpTrigger", "direction": "in", "name": "request",
                "methods": methods, "route": route,
                "authLevel": if key { "function" } else { "anonymous" },
            },
            // One trigger and one output, else the host does not forward the request as it came.
            { "type": "http", "direction": "out", "name": "response" },
        ]),
        Trigger::Queue(queue) => json!([{
            "type": "queueTrigger", "direction": "in", "name": MESSAGE,
            "queueName": queue, "connection": QUEUE_CONNECTION,
        }]),
        Trigger::Timer(schedule) => json!([{
            "type": "timerTrigger", "direction": "in", "name": "timer",
            "schedule": schedule, "useMonitor": false,
        }]),
    };
    json!({ "bindings": bindings })
}

async fn the_functions_of_the_package_are_those_of_the_code() {
    let app = TempDir::new().unwrap();
    package(app.path());
    let expected: BTreeMap<String, Value> =
        FUNCTIONS.iter().map(|function| (function.name.to_owned(), told(function))).collect();
    assert_eq!(expected.len(), FUNCTIONS.len(), "two functions of one name");
    assert_eq!(found(app.path()), expected);
}

async fn every_queue_has_somebody_for_what_failed_too_often() {
    let queues: Vec<&str> = FUNCTIONS
        .iter()
        .filter_map(|function| match function.trigger {
            Trigger::Queue(queue) => Some(queue),
            _ => None,
        })
        .collect();
    let (poison, work): (Vec<&str>, Vec<&str>) =
        queues.iter().partition(|queue| queue.ends_with(POISON));
    assert!(!work.is_empty());
    for queue in work {
        assert!(poison.contains(&format!("{queue}{POISON}").as_str()), "{queue}");
    }
}

async fn the_host_can_start_what_is_packaged() {
    let app = TempDir::new().unwrap();
    package(app.path());
    let host = json_of(&app.path().join("host.json"));
    let handler = &host["customHandler"];
    let program =
        app.path().join(handler["description"]["defaultExecutablePath"].as_str().unwrap());
    let mode = std::fs::metadata(&program).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "{}", program.display());
    assert_eq!(handler["description"]["arguments"], json!(["serve"]));
    assert_eq!(handler["enableForwardingHttpRequest"], true);
    // The messages are encoded by us, as this says.
    assert_eq!(host["extensions"]["queues"]["messageEncoding"], "base64");
    // Messages of instances that died spend this too, so real failures are counted in the store.
    assert!(host["extensions"]["queues"]["maxDequeueCount"].as_u64().unwrap() > 5);
}

async fn a_folder_in_use_is_not_laid_over() {
    let app = TempDir::new().unwrap();
    std::fs::write(app.path().join("mine"), "").unwrap();
    let output =
        deltacompare_testbed::layout(Path::new(env!("CARGO_BIN_EXE_deltacompare")), app.path());
    let error = output.unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(std::fs::read_dir(app.path()).unwrap().count(), 1);
}

tests! {
    the_functions_of_the_package_are_those_of_the_code: own_servers,
    every_queue_has_somebody_for_what_failed_too_often: own_servers,
    the_host_can_start_what_is_packaged: own_servers,
    a_folder_in_use_is_not_laid_over: own_servers,
}
