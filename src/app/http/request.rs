//! The body of a request to begin or to preview a recovery.

use std::num::NonZeroU64;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use clap::ValueEnum;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use super::problem::Problem;
use crate::error::Error;
use crate::model::{
    BeforeImage, BinaryMode, DecimalMode, Format, HstoreMode, IntervalMode, Lsn, PartitionBy,
    PartitionHash, PartitionKeySource, Record, Request, SinkTarget, SslMode, StrategyChoice,
    TableName, TimePrecision, Verify,
};
use crate::preflight::Servers;

/// What is asked for: the options of `deltacompare run` by the same names, with `_` for `-`, and with
/// the same words; those that may be repeated are lists with names in the plural. What is left out is
/// as the app's settings, else the program's defaults, have it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::app) struct RecoveryRequest {
    /// The database to compare, on both servers; without it, the one of the app's settings.
    #[schema(min_length = 1, max_length = 63, pattern = "^[^\\u0000]+$")]
    database: Option<String>,
    /// Only these publications' tables; without it, those of every publication.
    #[schema(schema_with = names)]
    publications: Option<Vec<String>>,
    /// Only these tables, each as `schema.table`.
    #[schema(schema_with = table_names)]
    #[serde(deserialize_with = "texts")]
    tables: Option<Vec<TableName>>,
    /// Not these tables.
    #[schema(schema_with = table_names)]
    #[serde(deserialize_with = "texts")]
    exclude: Option<Vec<TableName>>,
    /// Where events go: `event-hub:<namespace>/<hub>` or `delta-table`. Files have no place in the
    /// app.
    #[schema(schema_with = sinks)]
    #[serde(deserialize_with = "texts")]
    sinks: Option<Vec<SinkTarget>>,
    /// How tables are diffed.
    #[schema(schema_with = words::<StrategyChoice>)]
    #[serde(deserialize_with = "word")]
    strategy: Option<StrategyChoice>,
    /// Compare what is there although a restore was written to; the result is not proved.
    accept_written: Option<bool>,
    /// What the lost slot had confirmed: its `confirmed_flush_lsn`.
    lost_at_lsn: Option<Lsn>,
    /// Where the new slot begins: its `confirmed_flush_lsn` as it was at creation.
    new_slot_lsn: Option<Lsn>,
    /// The new slot's `restart_lsn` as it was at creation: the version that every event carries.
    new_slot_restart_lsn: Option<Lsn>,
    /// Go on although the restores do not cover the gap; what they leave out stays lost.
    accept_hole: Option<bool>,
    /// Go on although both restores end at the same place, so that no change lies between them.
    accept_empty_gap: Option<bool>,
    /// Compare contents although a server is of a version or a make that nothing is known of.
    accept_unknown_version: Option<bool>,
    /// What `deltacompare record` wrote of these two restores right after they were made.
    recorded: Option<Record>,
    /// Base's host as head knows it.
    #[schema(schema_with = name)]
    fdw_host: Option<String>,
    /// Base's port as head knows it.
    #[schema(minimum = 0, maximum = 65535)]
    fdw_port: Option<u16>,
    /// `sslmode` from head to base.
    #[schema(schema_with = words::<SslMode>)]
    #[serde(deserialize_with = "word")]
    fdw_sslmode: Option<SslMode>,
    /// The authority's certificate as a path on head's own machine, or `system`.
    #[schema(schema_with = name)]
    fdw_sslrootcert: Option<String>,
    /// How an event looks.
    #[schema(schema_with = words::<Format>)]
    #[serde(deserialize_with = "word")]
    format: Option<Format>,
    /// What an event says of the old row.
    #[schema(schema_with = words::<BeforeImage>)]
    #[serde(deserialize_with = "word")]
    before: Option<BeforeImage>,
    /// Debezium's `topic.prefix`, which its events name as their source.
    #[schema(schema_with = name)]
    topic_prefix: Option<String>,
    /// Debezium's `decimal.handling.mode`.
    #[schema(schema_with = words::<DecimalMode>)]
    #[serde(deserialize_with = "word")]
    decimal_handling_mode: Option<DecimalMode>,
    /// Debezium's `time.precision.mode`.
    #[schema(schema_with = words::<TimePrecision>)]
    #[serde(deserialize_with = "word")]
    time_precision_mode: Option<TimePrecision>,
    /// Debezium's `binary.handling.mode`.
    #[schema(schema_with = words::<BinaryMode>)]
    #[serde(deserialize_with = "word")]
    binary_handling_mode: Option<BinaryMode>,
    /// Debezium's `interval.handling.mode`.
    #[schema(schema_with = words::<IntervalMode>)]
    #[serde(deserialize_with = "word")]
    interval_handling_mode: Option<IntervalMode>,
    /// Debezium's `hstore.handling.mode`.
    #[schema(schema_with = words::<HstoreMode>)]
    #[serde(deserialize_with = "word")]
    hstore_handling_mode: Option<HstoreMode>,
    /// What decides an event's partition.
    #[schema(schema_with = words::<PartitionBy>)]
    #[serde(deserialize_with = "word")]
    partition_by: Option<PartitionBy>,
    /// Which string the partition key is.
    #[schema(schema_with = words::<PartitionKeySource>)]
    #[serde(deserialize_with = "word")]
    partition_key_source: Option<PartitionKeySource>,
    /// How a key becomes a partition.
    #[schema(schema_with = words::<PartitionHash>)]
    #[serde(deserialize_with = "word")]
    partition_hash: Option<PartitionHash>,
    /// Give each event the properties of CloudEvents 1.0 (binary mode) as well.
    cloud_events: Option<bool>,
    /// The most bytes that one process sends into the hub in a second.
    #[schema(value_type = Option<u64>, minimum = 1)]
    max_bytes_per_second: Option<NonZeroU64>,
    /// The most events that one process sends into the hub in a second.
    #[schema(value_type = Option<u64>, minimum = 1)]
    max_events_per_second: Option<NonZeroU64>,
    /// How results are proved.
    #[schema(schema_with = words::<Verify>)]
    #[serde(deserialize_with = "word")]
    verify: Option<Verify>,
    /// With `verify` `sample`: percent of the equal blocks whose contents are compared.
    #[schema(minimum = 1, maximum = 100)]
    sample_percent: Option<u8>,
    /// Tables, or parts of large ones, at once, in all processes together.
    #[schema(minimum = 1, maximum = 256)]
    parallel: Option<u16>,
    /// Blocks of 8 kB in one part of a large table.
    #[schema(minimum = 1, maximum = 4294967295u32)]
    range_blocks: Option<u32>,
    /// Begin although another recovery of the database is live.
    pub(in crate::app) allow_concurrent: bool,
    /// Keep foreign tables, helper views and the role on base when the recovery has ended.
    pub(in crate::app) keep_objects: bool,
    /// Only show the plan, as `POST /api/plan` does.
    pub(in crate::app) dry_run: bool,
}

/// Reads a JSON body, also as it was said.
///
/// # Errors
/// 415 for another content type, 413 for a body that is too large, 400 for what is no such body.
pub(in crate::app) fn read(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(Value, RecoveryRequest), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON: send it with Content-Type: application/json",
        ));
    }
    let body = body.map_err(|error| {
        Problem::new(error.into_response().status(), "the body could not be received whole")
    })?;
    let unusable = |error: serde_json::Error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body cannot be used: {error}"))
    };
    let said: Value = serde_json::from_slice(&body).map_err(unusable)?;
    let wrong = |why| Err(Problem::new(StatusCode::BAD_REQUEST, why));
    if !said.is_object() {
        return wrong("the body cannot be used: it must be a JSON object");
    }
    if has_zero(&said) {
        return wrong(
            "the body cannot be used: PostgreSQL knows no character U+0000; leave it out",
        );
    }
    // Not out of the value: these errors name the place. Yet 1.0 is an integer in JSON's schemas.
    let request = serde_json::from_slice(&body)
        .or_else(|error| serde_json::from_value(whole_numbers(said.clone())).map_err(|_| error));
    Ok((said, request.map_err(unusable)?))
}

/// The same with 1.0 written as 1.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                (float as i64).into()
            }
            _ => number.into(),
        },
        Value::Array(values) => values.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect()
        }
        other => other,
    }
}

fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_zero),
        Value::Object(fields) => fields.iter().any(|(key, it)| key.contains('\0') || has_zero(it)),
        _ => false,
    }
}

impl RecoveryRequest {
    /// The servers that it speaks of, out of those of the app's settings.
    pub(in crate::app) fn servers(&self, servers: &Servers) -> Servers {
        match &self.database {
            Some(database) => servers.with_database(database),
            None => servers.clone(),
        }
    }

    /// The request, checked as far as that goes without the servers.
    ///
    /// # Errors
    /// Refused; names the field.
    pub(in crate::app) fn request(self, defaults: Request) -> Result<Request, Error> {
        let mut request = defaults;
        let or = |field: &mut bool, value: Option<bool>| *field = value.unwrap_or(*field);
        or(&mut request.accept_written, self.accept_written);
        or(&mut request.accept_hole, self.accept_hole);
        or(&mut request.accept_empty_gap, self.accept_empty_gap);
        or(&mut request.accept_unknown_version, self.accept_unknown_version);
        request.publications = self.publications.unwrap_or(request.publications);
        request.tables = self.tables.unwrap_or(request.tables);
        request.exclude = self.exclude.unwrap_or(request.exclude);
        request.sinks = self.sinks.unwrap_or(request.sinks);
        request.strategy = self.strategy.unwrap_or(request.strategy);
        request.lost_at_lsn = self.lost_at_lsn.or(request.lost_at_lsn);
        request.new_slot_lsn = self.new_slot_lsn.or(request.new_slot_lsn);
        request.new_slot_restart_lsn = self.new_slot_restart_lsn.or(request.new_slot_restart_lsn);
        request.recorded = self.recorded.or(request.recorded);
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
        let hub = &mut request.event_hub;
        hub.partition_by = self.partition_by.unwrap_or(hub.partition_by);
        hub.partition_key_source = self.partition_key_source.unwrap_or(hub.partition_key_source);
        hub.partition_hash = self.partition_hash.unwrap_or(hub.partition_hash);
        or(&mut hub.cloud_events, self.cloud_events);
        hub.max_bytes_per_second = self.max_bytes_per_second.or(hub.max_bytes_per_second);
        hub.max_events_per_second = self.max_events_per_second.or(hub.max_events_per_second);
        request.verify = self.verify.unwrap_or(request.verify);
        request.sample_percent = self.sample_percent.unwrap_or(request.sample_percent);
        request.parallel = self.parallel.unwrap_or(request.parallel);
        request.range_blocks = self.range_blocks.or(request.range_blocks);
        let from_to = |what: &str, valid: bool| {
            if valid { Ok(()) } else { Err(Error::refused(what)) }
        };
        from_to("parallel must be from 1 to 256", (1..=256).contains(&request.parallel))?;
        from_to("range_blocks must be 1 or more", request.range_blocks != Some(0))?;
        from_to(
            "sample_percent must be from 1 to 100",
            (1..=100).contains(&request.sample_percent),
        )?;
        if let Some(both) = request.tables.iter().find(|table| request.exclude.contains(table)) {
            return Err(Error::refused(format!(
                "{both} is both in tables and in exclude: take it out of one"
            )));
        }
        if request.sinks.iter().any(|sink| matches!(sink, SinkTarget::Ndjson(_))) {
            return Err(Error::refused(
                "the app writes no files, which would be gone with its instance: use the sink \
                 delta-table or event-hub:…, or deltacompare run for a file",
            ));
        }
        Ok(request)
    }
}

/// A word as the command line has it.
fn word<'de, D: Deserializer<'de>, T: ValueEnum>(from: D) -> Result<Option<T>, D::Error> {
    let Some(word) = Option::<String>::deserialize(from)? else { return Ok(None) };
    T::from_str(&word, false).map(Some).map_err(|_| {
        de::Error::custom(format!("{word:?} is unknown here: use {}", names_of::<T>().join(", ")))
    })
}

fn names_of<T: ValueEnum>() -> Vec<String> {
    T::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|value| value.get_name().to_owned())
        .collect()
}

/// A list of what the command line takes as text.
fn texts<'de, D, T>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = Error>,
{
    let Some(texts) = Option::<Vec<String>>::deserialize(from)? else { return Ok(None) };
    texts
        .iter()
        .map(|text| text.parse().map_err(de::Error::custom))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn or_null(schema_type: Type) -> SchemaType {
    SchemaType::from_iter([schema_type, Type::Null])
}

/// One of the command line's words, or null.
fn words<T: ValueEnum>() -> Object {
    let words = names_of::<T>().into_iter().map(Value::from).chain([Value::Null]);
    ObjectBuilder::new().schema_type(or_null(Type::String)).enum_values(Some(words)).build()
}

fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// PostgreSQL knows no U+0000.
const ANYTHING: &str = "^[^\\u0000]+$";

/// Parts of names are quoted where they must be.
const TABLE_NAME: &str =
    r#"^("([^"\u0000]|"")+"|[^."\u0000]+)\.("([^"\u0000]|"")+"|[^."\u0000]+)$"#;

const SINK: &str = r"^(delta-table|event-hub:[A-Za-z0-9-]{1,50}(\.servicebus\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net|cloudapi\.de))?/[A-Za-z0-9._-]{1,256})$";

fn name() -> Object {
    text(ANYTHING).schema_type(or_null(Type::String)).build()
}

fn list(items: ObjectBuilder) -> utoipa::openapi::schema::Array {
    utoipa::openapi::schema::ArrayBuilder::new()
        .schema_type(or_null(Type::Array))
        .items(items.build())
        .build()
}

fn names() -> utoipa::openapi::schema::Array {
    list(text(ANYTHING))
}

fn table_names() -> utoipa::openapi::schema::Array {
    list(text(TABLE_NAME))
}

fn sinks() -> utoipa::openapi::schema::Array {
    list(text(SINK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(body: &str) -> Result<RecoveryRequest, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        read(&headers, Ok(Bytes::copy_from_slice(body.as_bytes())))
            .map(|(_, request)| request)
            .map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_body_takes_the_words_of_the_command_line() {
        let request = body(
            r#"{"tables": ["shop.orders", "\"S.x\".\"T\""], "sinks": ["delta-table"],
                "strategy": "content", "verify": "full", "lost_at_lsn": "0/F000000",
                "parallel": 8.0, "max_events_per_second": null}"#,
        )
        .unwrap();
        assert_eq!(request.strategy, Some(StrategyChoice::Content));
        assert_eq!(request.verify, Some(Verify::Full));
        assert_eq!(request.lost_at_lsn, Some("0/F000000".parse().unwrap()));
        assert_eq!(request.parallel, Some(8));
        assert_eq!(request.max_events_per_second, None);
        let tables = request.tables.unwrap();
        assert_eq!(
            tables,
            [
                TableName { schema: "shop".into(), name: "orders".into() },
                TableName { schema: "S.x".into(), name: "T".into() },
            ]
        );
    }

    #[test]
    fn what_a_body_gets_wrong_is_named() {
        for (text, named) in [
            (r#"{"sink": ["delta-table"]}"#, "sink"),
            (r#"{"strategy": "quick"}"#, "row-versions"),
            (r#"{"tables": ["orders"]}"#, "orders"),
            (r#"{"lost_at_lsn": "here"}"#, "here"),
            (r#"{"parallel": 1.5}"#, "1.5"),
            (r#"{"max_bytes_per_second": 0}"#, "nonzero"),
            (r#"{"fdw_port": 65536}"#, "65536"),
            (r#"{"topic_prefix": "a\u0000b"}"#, "U+0000"),
            ("[]", "must be a JSON object"),
            ("{", "EOF"),
            ("", "EOF"),
        ] {
            let problem = body(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(problem.contains(named), "{text}: {problem}");
        }
        let plain = read(&HeaderMap::new(), Ok(Bytes::from_static(b"{}")));
        assert!(format!("{:?}", plain.unwrap_err()).contains("Content-Type"));
    }
}
