//! What the program tells of itself: a log, and traces and metrics over OTLP where a collector is
//! named. `docs/operations.md` describes all three.
//!
//! Telemetry never holds the work up and never fails it: what cannot be sent is dropped.

mod client;
mod host_lines;
pub(crate) mod metrics;
pub(crate) mod trace;

use std::io::IsTerminal;
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{
    MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Span};
use tracing_subscriber::filter::{EnvFilter, FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};
use url::Url;
use uuid::Uuid;

use client::Client;
use host_lines::{HostLines, WithInvocation};

pub(crate) use host_lines::invocation;

/// For what is still to be sent when the program ends.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// The log's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// For people, on standard error.
    People,
    /// For the Functions host: one JSON object a line, on standard output; warnings and errors on
    /// standard error.
    Host,
}

/// Traces and metrics that are being sent, if they are.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// The span of a whole command. It continues the trace that `TRACEPARENT` names.
pub fn root(command: &'static str) -> Span {
    let span = tracing::debug_span!("command", otel.name = command);
    if let Some(origin) = trace::ParentTrace::of_environment() {
        origin.adopt(&span);
    }
    span
}

/// What an exporter sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Traces,
    Metrics,
}

impl Telemetry {
    /// Starts the log, and what `OTEL_EXPORTER_OTLP_ENDPOINT` and its kin ask for. To be called
    /// once, within the runtime that is to send.
    pub fn start(log: Log) -> Self {
        let mut complaints = Vec::new();
        let traces = traces(&mut complaints);
        let metrics = metrics(&mut complaints);
        if let Some(metrics) = &metrics {
            opentelemetry::global::set_meter_provider(metrics.clone());
        }
        let spans = traces.as_ref().map(|traces| {
            tracing_opentelemetry::layer()
                .with_tracer(traces.tracer("deltacompare"))
                // Whatever the log leaves out; and nothing of the libraries'.
                .with_filter(
                    Targets::new()
                        .with_target("deltacompare", LevelFilter::DEBUG)
                        .with_target(host_lines::INVOCATION, LevelFilter::OFF),
                )
        });
        tracing_subscriber::registry().with(lines(log)).with(spans).init();
        for complaint in complaints {
            tracing::warn!("{complaint}");
        }
        Self { traces, metrics }
    }

    /// Sends what is left, for three seconds at most.
    pub fn end(self) {
        let (done, ended) = mpsc::channel::<()>();
        let Self { traces, metrics } = self;
        let tracing = traces.is_some().then(|| done.clone());
        let metering = metrics.is_some().then_some(done);
        // Each may wait for a collector that does not answer, and the metrics do so for long.
        std::thread::spawn(move || {
            let _ = traces.map(|traces| traces.shutdown_with_timeout(ENDS_WITHIN));
            drop(tracing);
        });
        std::thread::spawn(move || {
            let _ = metrics.map(|metrics| metrics.shutdown());
            drop(metering);
        });
        // Nothing is ever sent: this ends when both have let go, or when the time is over.
        let _ = ended.recv_timeout(ENDS_WITHIN);
    }
}

/// The lines of the log.
fn lines(log: Log) -> Box<dyn Layer<Registry> + Send + Sync> {
    let default = match log {
        Log::Host => "info,pgwire_replication=off,refinery_core=warn,tokio_postgres=warn",
        Log::People => "warn,pgwire_replication=off",
    };
    let filter = EnvFilter::try_from_env("DELTACOMPARE_LOG").unwrap_or_else(|_| default.into());
    // Below this level it repeats statements, and the one that makes a user mapping has a password.
    let says_no_statement = |metadata: &Metadata<'_>| {
        *metadata.level() <= Level::INFO || !metadata.target().starts_with("tokio_postgres")
    };
    let filter = filter.and(filter_fn(says_no_statement));
    let lines = tracing_subscriber::fmt::layer();
    match log {
        Log::Host => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_ansi(false)
            .map_event_format(WithInvocation)
            .with_writer(HostLines)
            .with_filter(filter)
            .boxed(),
        Log::People => lines
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .with_filter(filter)
            .boxed(),
    }
}

fn traces(complaints: &mut Vec<String>) -> Option<SdkTracerProvider> {
    let client = client(Signal::Traces, complaints)?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client)
        .build();
    match exporter {
        Ok(exporter) => Some(
            SdkTracerProvider::builder()
                .with_resource(resource())
                .with_batch_exporter(exporter)
                .build(),
        ),
        Err(_) => {
            complaints.push(unusable(Signal::Traces));
            None
        }
    }
}

fn metrics(complaints: &mut Vec<String>) -> Option<SdkMeterProvider> {
    let client = client(Signal::Metrics, complaints)?;
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client)
        .build();
    match exporter {
        Ok(exporter) => Some(
            SdkMeterProvider::builder()
                .with_resource(resource())
                .with_periodic_exporter(exporter)
                .build(),
        ),
        Err(_) => {
            complaints.push(unusable(Signal::Metrics));
            None
        }
    }
}

/// What a signal is sent through, if it is wanted.
fn client(signal: Signal, complaints: &mut Vec<String>) -> Option<Client> {
    let name = signal.name();
    let disabled = setting("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
    let none = setting(&format!("OTEL_{name}_EXPORTER")).is_some_and(|it| it == "none");
    let endpoint = signal.setting("ENDPOINT")?;
    if disabled || none {
        return None;
    }
    if !Url::parse(&endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        complaints.push(unusable(signal));
        return None;
    }
    if let Some(protocol) = signal.setting("PROTOCOL").filter(|it| it != "http/protobuf") {
        complaints.push(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, but {} go as http/protobuf: set it to \
             that, and the endpoint to the collector's port for HTTP (4318)",
            signal.plural()
        ));
    }
    let client = Client::new(signal.plural(), signal.setting("TIMEOUT"));
    if client.is_none() {
        complaints.push(unusable(signal));
    }
    client
}

/// The cause may repeat what the settings say, and with it a secret.
fn unusable(signal: Signal) -> String {
    format!(
        "{} are not sent: OTEL_EXPORTER_OTLP_ENDPOINT must be an http or https URL, and \
         OTEL_EXPORTER_OTLP_COMPRESSION must not be set",
        signal.plural()
    )
}

/// Who is telling: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come last.
fn resource() -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name("deltacompare")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            // Sums of several processes must not be taken for one.
            KeyValue::new("service.instance.id", instance().to_string()),
        ])
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match setting("OTEL_SERVICE_NAME") {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// This process.
fn instance() -> Uuid {
    static INSTANCE: std::sync::LazyLock<Uuid> = std::sync::LazyLock::new(Uuid::new_v4);
    *INSTANCE
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// What is set for this signal, or for all.
    fn setting(self, what: &str) -> Option<String> {
        setting(&format!("OTEL_EXPORTER_OTLP_{}_{what}", self.name()))
            .or_else(|| setting(&format!("OTEL_EXPORTER_OTLP_{what}")))
    }
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
