//! The body of a request to begin or to preview a recovery.

use axum::http::{HeaderMap, StatusCode, header};
use clap::ValueEnum;
use serde::{Deserialize, Deserializer, de};

use super::problem::Problem;
use crate::catalog::TableName;
use crate::error::Error;
use crate::event::{
    BeforeImage, BinaryMode, DecimalMode, Format, HstoreMode, IntervalMode, TimePrecision,
};
use crate::lineage::Lsn;
use crate::recovery::{Request, SinkTarget, StrategyChoice, Verify};
use crate::server::SslMode;

/// The options of the command line by the same names and with the same words; what is left out is
/// as the app's settings, else the program's defaults, have it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Body {
    publication: Option<String>,
    #[serde(deserialize_with = "texts")]
    tables: Option<Vec<TableName>>,
    #[serde(deserialize_with = "texts")]
    exclude: Option<Vec<TableName>>,
    #[serde(deserialize_with = "texts")]
    sinks: Option<Vec<SinkTarget>>,
    #[serde(deserialize_with = "word")]
    strategy: Option<StrategyChoice>,
    accept_written: Option<bool>,
    lost_at_lsn: Option<Lsn>,
    new_slot_lsn: Option<Lsn>,
    new_slot_restart_lsn: Option<Lsn>,
    accept_hole: Option<bool>,
    fdw_host: Option<String>,
    fdw_port: Option<u16>,
    #[serde(deserialize_with = "word")]
    fdw_sslmode: Option<SslMode>,
    fdw_sslrootcert: Option<String>,
    #[serde(deserialize_with = "word")]
    format: Option<Format>,
    #[serde(deserialize_with = "word")]
    before: Option<BeforeImage>,
    tombstones: Option<bool>,
    topic_prefix: Option<String>,
    #[serde(deserialize_with = "word")]
    decimal_handling_mode: Option<DecimalMode>,
    #[serde(deserialize_with = "word")]
    time_precision_mode: Option<TimePrecision>,
    #[serde(deserialize_with = "word")]
    binary_handling_mode: Option<BinaryMode>,
    #[serde(deserialize_with = "word")]
    interval_handling_mode: Option<IntervalMode>,
    #[serde(deserialize_with = "word")]
    hstore_handling_mode: Option<HstoreMode>,
    #[serde(deserialize_with = "word")]
    verify: Option<Verify>,
    parallel: Option<u16>,
    range_blocks: Option<u32>,
    /// Begin although another recovery is live.
    pub(super) allow_concurrent: bool,
}

/// Reads a JSON body.
///
/// # Errors
/// 415 for another content type, 400 for what is no such body.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Body, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON: send it with Content-Type: application/json",
        ));
    }
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body cannot be used: {error}"))
    })
}

impl Body {
    /// The request, checked as far as that goes without the servers.
    ///
    /// # Errors
    /// Refused; names the field.
    pub(super) fn request(self, defaults: Request) -> Result<Request, Error> {
        let mut request = defaults;
        let set = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
        set(&mut request.accept_written, self.accept_written);
        set(&mut request.accept_hole, self.accept_hole);
        set(&mut request.tombstones, self.tombstones);
        request.publication = self.publication.or(request.publication);
        request.tables = self.tables.unwrap_or(request.tables);
        request.exclude = self.exclude.unwrap_or(request.exclude);
        request.sinks = self.sinks.unwrap_or(request.sinks);
        request.strategy = self.strategy.unwrap_or(request.strategy);
        request.lost_at_lsn = self.lost_at_lsn.or(request.lost_at_lsn);
        request.new_slot_lsn = self.new_slot_lsn.or(request.new_slot_lsn);
        request.new_slot_restart_lsn = self.new_slot_restart_lsn.or(request.new_slot_restart_lsn);
        request.fdw.host = self.fdw_host.or(request.fdw.host);
        request.fdw.port = self.fdw_port.or(request.fdw.port);
        request.fdw.ssl_mode = self.fdw_sslmode.or(request.fdw.ssl_mode);
        request.fdw.ssl_root_cert = self.fdw_sslrootcert.or(request.fdw.ssl_root_cert);
        request.format = self.format.unwrap_or(request.format);
        request.before = self.before.unwrap_or(request.before);
        request.topic_prefix = self.topic_prefix.unwrap_or(request.topic_prefix);
        let debezium = &mut request.debezium;
        debezium.decimal = self.decimal_handling_mode.unwrap_or(debezium.decimal);
        debezium.time_precision = self.time_precision_mode.unwrap_or(debezium.time_precision);
        debezium.binary = self.binary_handling_mode.unwrap_or(debezium.binary);
        debezium.interval = self.interval_handling_mode.unwrap_or(debezium.interval);
        debezium.hstore = self.hstore_handling_mode.unwrap_or(debezium.hstore);
        request.verify = self.verify.unwrap_or(request.verify);
        request.parallel = self.parallel.unwrap_or(request.parallel);
        request.range_blocks = self.range_blocks.unwrap_or(request.range_blocks);
        if !(1..=256).contains(&request.parallel) {
            return Err(Error::refused("parallel must be from 1 to 256"));
        }
        if request.range_blocks == 0 {
            return Err(Error::refused("range_blocks must be 1 or more"));
        }
        if let Some(both) = request.tables.iter().find(|table| request.exclude.contains(table)) {
            return Err(Error::refused(format!(
                "{both} is both in tables and in exclude: take it out of one"
            )));
        }
        if request.sinks.iter().any(|sink| matches!(sink, SinkTarget::Ndjson(_))) {
            return Err(Error::refused(
                "the app writes no files, which would be gone with its instance: use the sink \
                 delta-table, or `deltacompare run` for a file",
            ));
        }
        Ok(request)
    }
}

/// A word as the command line has it.
fn word<'de, D: Deserializer<'de>, T: ValueEnum>(from: D) -> Result<Option<T>, D::Error> {
    let Some(word) = Option::<String>::deserialize(from)? else { return Ok(None) };
    T::from_str(&word, false).map(Some).map_err(|_| {
        let known: Vec<String> = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value)
            .map(|value| value.get_name().to_owned())
            .collect();
        de::Error::custom(format!("{word:?} is unknown here: use {}", known.join(", ")))
    })
}

/// A list of what the command line takes as text.
fn texts<'de, D, T>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err = Error>,
{
    let Some(texts) = Option::<Vec<String>>::deserialize(from)? else { return Ok(None) };
    texts
        .iter()
        .map(|text| text.parse().map_err(de::Error::custom))
        .collect::<Result<_, _>>()
        .map(Some)
}
