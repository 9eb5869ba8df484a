//! The packaged app: host.json at the root, and a folder a function beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::route::Route;
use super::timer::Schedule;

/// What Flex Consumption gives an invocation unless host.json says otherwise.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// An app as the host has read it.
#[derive(Debug)]
pub(super) struct App {
    pub(super) root: PathBuf,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) function_timeout: Duration,
    pub(super) route_prefix: String,
    pub(super) queues: Queues,
    pub(super) functions: Vec<Function>,
}

#[derive(Debug)]
pub(super) struct Function {
    /// Its folder's name.
    pub(super) name: String,
    pub(super) trigger: Trigger,
}

#[derive(Debug)]
pub(super) enum Trigger {
    Http { methods: Vec<String>, route: Route, anonymous: bool },
    Queue { binding: String, queue: String, connection: String },
    Timer { binding: String, schedule: Schedule },
}

/// `extensions.queues` of host.json, with the host's defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Queues {
    pub(super) batch_size: usize,
    pub(super) new_batch_threshold: Option<usize>,
    pub(super) max_dequeue_count: i64,
    #[serde(deserialize_with = "time_span")]
    pub(super) visibility_timeout: Duration,
    #[serde(deserialize_with = "time_span")]
    pub(super) max_polling_interval: Duration,
    message_encoding: String,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            batch_size: 16,
            new_batch_threshold: None,
            max_dequeue_count: 5,
            visibility_timeout: Duration::ZERO,
            max_polling_interval: Duration::from_secs(60),
            message_encoding: "base64".to_owned(),
        }
    }
}

impl Queues {
    /// How many may still run when the next batch is asked for.
    pub(super) fn threshold(&self) -> usize {
        self.new_batch_threshold.unwrap_or(self.batch_size / 2)
    }

    /// Whether messages are base64 of their text.
    pub(super) fn base64(&self) -> bool {
        self.message_encoding == "base64"
    }
}

/// Strict where a slip would otherwise go unnoticed until Azure: an unknown name is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HostJson {
    version: String,
    function_timeout: Option<String>,
    custom_handler: CustomHandler,
    #[serde(default)]
    extensions: Extensions,
    extension_bundle: ExtensionBundle,
    #[serde(default, rename = "logging")]
    _logging: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CustomHandler {
    description: Description,
    enable_forwarding_http_request: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Description {
    default_executable_path: String,
    #[serde(default)]
    arguments: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Extensions {
    http: Http,
    queues: Queues,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Http {
    route_prefix: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { route_prefix: "api".to_owned() }
    }
}

#[derive(Deserialize)]
struct ExtensionBundle {
    id: String,
    version: String,
}

#[derive(Deserialize)]
struct FunctionJson {
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    #[serde(rename = "type")]
    kind: String,
    direction: String,
    name: String,
    methods: Option<Vec<String>>,
    route: Option<String>,
    auth_level: Option<String>,
    queue_name: Option<String>,
    connection: Option<String>,
    schedule: Option<String>,
}

impl App {
    /// Reads a packaged app. Refuses what the host would refuse, and what this stand-in does not do.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let root = root.canonicalize().with_context(|| root.display().to_string())?;
        let host: HostJson = read(&root.join("host.json"))?;
        ensure!(host.version == "2.0", "host.json has version {}, not 2.0", host.version);
        ensure!(
            host.extension_bundle.id == "Microsoft.Azure.Functions.ExtensionBundle"
                && host.extension_bundle.version.starts_with("[4."),
            "without the extension bundle 4 there are no queues"
        );
        ensure!(
            host.custom_handler.enable_forwarding_http_request,
            "this stand-in forwards HTTP requests and does nothing else with them"
        );
        let queues = host.extensions.queues;
        ensure!((1..=32).contains(&queues.batch_size), "batchSize is 1 to 32");
        ensure!(
            ["base64", "none"].contains(&queues.message_encoding.as_str()),
            "messageEncoding is base64 or none"
        );
        let program = root.join(&host.custom_handler.description.default_executable_path);
        ensure!(program.is_file(), "{} is missing", program.display());
        let function_timeout = match host.function_timeout.as_deref() {
            None => FUNCTION_TIMEOUT,
            Some("-1") => Duration::MAX,
            Some(text) => parse_time_span(text)?,
        };
        let mut functions = Vec::new();
        for entry in fs::read_dir(&root)? {
            let folder = entry?.path();
            let file = folder.join("function.json");
            if file.is_file() {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let trigger = trigger(&name, read::<FunctionJson>(&file)?)
                    .with_context(|| file.display().to_string())?;
                functions.push(Function { name, trigger });
            }
        }
        ensure!(!functions.is_empty(), "no folder in {} holds a function.json", root.display());
        Ok(Self {
            program,
            arguments: host.custom_handler.description.arguments,
            function_timeout,
            route_prefix: host.extensions.http.route_prefix,
            queues,
            functions,
            root,
        })
    }
}

fn trigger(function: &str, json: FunctionJson) -> Result<Trigger> {
    let mut triggers = json.bindings.iter().filter(|binding| binding.kind.ends_with("Trigger"));
    let trigger = triggers.next().context("it has no trigger")?;
    ensure!(triggers.next().is_none(), "it has two triggers");
    ensure!(trigger.direction == "in", "its trigger's direction is not `in`");
    let others = json.bindings.iter().filter(|binding| !binding.kind.ends_with("Trigger"));
    let others: Vec<(&str, &str)> =
        others.map(|binding| (binding.kind.as_str(), binding.direction.as_str())).collect();
    let binding = trigger.name.clone();
    Ok(match trigger.kind.as_str() {
        "httpTrigger" => {
            // Else the host does not forward the request, but wraps it.
            ensure!(others == [("http", "out")], "its bindings are not one trigger and one output");
            Trigger::Http {
                methods: trigger.methods.clone().context("it names no methods")?,
                route: Route::parse(trigger.route.as_deref().unwrap_or(function)),
                anonymous: match trigger.auth_level.as_deref() {
                    Some("anonymous") => true,
                    None | Some("function") => false,
                    other => bail!("authLevel {other:?} is not known here"),
                },
            }
        }
        "queueTrigger" | "timerTrigger" if !others.is_empty() => {
            bail!("output bindings are not known here")
        }
        "queueTrigger" => Trigger::Queue {
            binding,
            queue: trigger.queue_name.clone().context("it names no queue")?,
            connection: trigger.connection.clone().context("it names no connection")?,
        },
        "timerTrigger" => Trigger::Timer {
            binding,
            schedule: Schedule::parse(trigger.schedule.as_deref().context("it has no schedule")?)?,
        },
        other => bail!("{other} is not known here"),
    })
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| file.display().to_string())
}

/// `hh:mm:ss`, as host.json writes durations.
fn parse_time_span(text: &str) -> Result<Duration> {
    let parts: Vec<u64> = text
        .split(':')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{text} is no time span hh:mm:ss"))?;
    let [hours, minutes, seconds] = parts[..] else {
        bail!("{text} is no time span hh:mm:ss");
    };
    Ok(Duration::from_secs((hours * 60 + minutes) * 60 + seconds))
}

fn time_span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_time_span(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
