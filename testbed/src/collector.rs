//! A stand-in for an OpenTelemetry collector.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// What is named and told apart by attributes.
pub type Attributes = BTreeMap<String, String>;

/// Takes traces and metrics over OTLP as http/protobuf (opentelemetry-proto, "OTLP/HTTP"), and keeps
/// what came. A request without the header that it wants is turned away with 401.
///
/// Does not cover: gRPC, JSON, compression, partial success, throttling (429 with `Retry-After`), logs;
/// what a back end does with names, units and temporality. Of a histogram it keeps count and sum, of a
/// sum's temporality nothing: it must be sent cumulative.
#[derive(Debug)]
pub struct Collector {
    url: String,
    received: Received,
    serving: AbortHandle,
}

#[derive(Clone, Debug)]
struct Received(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    key: String,
    refused: u64,
    spans: Vec<Span>,
    /// The latest of each series.
    points: BTreeMap<(String, Attributes), Point>,
}

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// Its trace, in hexadecimal.
    pub trace: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// The span that it is part of, in hexadecimal; empty for a root.
    pub parent: String,
    /// The traces that it has to do with, in hexadecimal.
    pub links: Vec<String>,
    /// Its attributes.
    pub attributes: Attributes,
    /// Those of the process that sent it.
    pub resource: Attributes,
    /// Whether it is marked as failed.
    pub failed: bool,
}

/// The latest of one series of one process.
#[derive(Clone, Debug)]
pub struct Point {
    /// The metric.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// What it is told apart by; not the process.
    pub attributes: Attributes,
    /// A sum, a gauge's value, or a histogram's sum.
    pub value: f64,
    /// How many values a histogram has.
    pub count: u64,
}

impl Collector {
    /// Starts one that wants `x-key: <key>`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(key: &str) -> Result<Self> {
        let state = Kept { key: key.to_owned(), ..Kept::default() };
        let received = Received(Arc::new(Mutex::new(state)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(received.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, received, serving: serving.abort_handle() })
    }

    /// Where it is: `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The spans that came.
    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().spans.clone()
    }

    /// The latest of each series.
    pub fn points(&self) -> Vec<Point> {
        self.received.lock().points.values().cloned().collect()
    }

    /// How many requests were turned away.
    pub fn refused(&self) -> u64 {
        self.received.lock().refused
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Received {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a request, if it may be sent.
    fn read<T: Message + Default>(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<T, StatusCode> {
        let mut state = self.lock();
        if headers.get("x-key").map(|key| key.as_bytes()) != Some(state.key.as_bytes()) {
            state.refused += 1;
            return Err(StatusCode::UNAUTHORIZED);
        }
        if headers.get(header::CONTENT_TYPE).is_none_or(|it| it != "application/x-protobuf") {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        T::decode(body.as_ref()).map_err(|_| StatusCode::BAD_REQUEST)
    }
}

async fn traces(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> Response {
    let request: ExportTraceServiceRequest = match received.read(&headers, &body) {
        Ok(request) => request,
        Err(status) => return status.into_response(),
    };
    for of_resource in request.resource_spans {
        let resource =
            of_resource.resource.map(|it| attributes(&it.attributes)).unwrap_or_default();
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            received.lock().spans.push(Span {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                attributes: attributes(&span.attributes),
                resource: resource.clone(),
                // STATUS_CODE_ERROR
                failed: span.status.is_some_and(|status| status.code == 2),
            });
        }
    }
    answer(&ExportTraceServiceResponse::default())
}

async fn metrics(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> Response {
    let request: ExportMetricsServiceRequest = match received.read(&headers, &body) {
        Ok(request) => request,
        Err(status) => return status.into_response(),
    };
    for of_resource in request.resource_metrics {
        let resource =
            of_resource.resource.map(|it| attributes(&it.attributes)).unwrap_or_default();
        let instance = resource.get("service.instance.id").cloned().unwrap_or_default();
        for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            let points: Vec<(Attributes, f64, u64)> = match metric.data {
                Some(metric::Data::Sum(sum)) => sum.data_points.iter().map(number).collect(),
                Some(metric::Data::Gauge(gauge)) => gauge.data_points.iter().map(number).collect(),
                Some(metric::Data::Histogram(histogram)) => histogram
                    .data_points
                    .iter()
                    .map(|point| (attributes(&point.attributes), point.sum(), point.count))
                    .collect(),
                _ => return StatusCode::BAD_REQUEST.into_response(),
            };
            for (attributes, value, count) in points {
                let mut series = attributes.clone();
                series.insert("service.instance.id".to_owned(), instance.clone());
                let point = Point {
                    metric: metric.name.clone(),
                    unit: metric.unit.clone(),
                    attributes,
                    value,
                    count,
                };
                received.lock().points.insert((metric.name.clone(), series), point);
            }
        }
    }
    answer(&ExportMetricsServiceResponse::default())
}

fn number(
    point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint,
) -> (Attributes, f64, u64) {
    let value = match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        None => 0.0,
    };
    (attributes(&point.attributes), value, 1)
}

fn attributes(pairs: &[KeyValue]) -> Attributes {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|it| it.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(yes)) => yes.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(message: &impl Message) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/x-protobuf")];
    (headers, message.encode_to_vec()).into_response()
}
