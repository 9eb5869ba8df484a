//! The body of a request to begin or to plan a recovery.

use std::fmt;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::field;
use super::problem::Problem;
use crate::error::Error;
use crate::model::{EventHubOptions, Request, SinkTarget, StartOptions};
use crate::preflight::Servers;

/// What is asked for: the options of `deltacompare run` by the names that docs/cli.md has in the
/// column "API". What is left out is as the app's settings, else the program's defaults, have it.
#[derive(Debug)]
pub(in crate::app) struct RecoveryRequest {
    /// The fields of [`Request`] that were given; each has been read once.
    said: Map<String, Value>,
    /// What else was given.
    pub(in crate::app) start: StartOptions,
}

/// The objects that have the fields, as the OpenAPI document describes them.
fn described() -> Vec<Object> {
    [Request::schema(), EventHubOptions::schema(), StartOptions::schema()]
        .into_iter()
        .filter_map(|schema| match schema {
            RefOr::T(Schema::Object(object)) => Some(object),
            _ => None,
        })
        .collect()
}

impl PartialSchema for RecoveryRequest {
    fn schema() -> RefOr<Schema> {
        let mut all = ObjectBuilder::new()
            .description(Some(
                "What is asked for: the options of `deltacompare run`. What is left out is as the \
                 app's settings, else the program's defaults, have it.",
            ))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        for object in described() {
            for (name, mut schema) in object.properties {
                without_zero(&mut schema);
                all = all.property(name, schema);
            }
        }
        all.build().into()
    }
}

impl ToSchema for RecoveryRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Request::schemas(schemas);
    }
}

/// PostgreSQL knows no U+0000: text without another pattern gets one.
fn without_zero(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            let text = match &object.schema_type {
                SchemaType::Type(of) => *of == Type::String,
                SchemaType::Array(of) => of.contains(&Type::String),
                SchemaType::AnyValue => false,
            };
            if text && object.pattern.is_none() && object.enum_values.is_none() {
                object.pattern = Some("^[^\\u0000]+$".to_owned());
            }
            object.properties.values_mut().for_each(without_zero);
        }
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                without_zero(items);
            }
        }
        _ => {}
    }
}

/// The fields of a body, each once.
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.contains_key(&name) {
                        return Err(de::Error::custom(format!("`{name}` is given twice")));
                    }
                    fields.insert(name, value);
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Each)
    }
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
    let unusable = |why: String| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body cannot be used: {why}"))
    };
    let Fields(fields) = serde_json::from_slice(&body).map_err(|error| match error.classify() {
        // What JSON lacks is said by its place; what the value is not, in words of ours.
        serde_json::error::Category::Data
            if error.to_string().contains("expected a JSON object") =>
        {
            unusable("it must be a JSON object".to_owned())
        }
        _ => unusable(error.to_string()),
    })?;
    let said = Value::Object(fields.clone());
    if has_zero(&said) {
        const ZERO: &str = "PostgreSQL knows no character U+0000; leave it out";
        // The document does not describe each text in a record: there it is well formed, and refused.
        let of_record = fields.iter().all(|(name, it)| name == "recorded" || !has_zero(it));
        return Err(if of_record && fields.contains_key("recorded") {
            let detail = format!("the body cannot be used: {ZERO} of `recorded`");
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        } else {
            unusable(ZERO.to_owned())
        });
    }
    let request = RecoveryRequest::of(fields).map_err(unusable)?;
    Ok((said, request))
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
    /// Each field by itself, so that the one that is wrong can be named.
    fn of(fields: Map<String, Value>) -> Result<Self, String> {
        let schema = serde_json::to_value(Self::schema()).unwrap_or_default();
        let names = Request::field_names();
        let mut start = Map::new();
        let mut said = Map::new();
        for (name, value) in fields {
            let described = &schema["properties"][&name];
            let of_request = names.contains(&name);
            if !of_request && described.is_null() {
                return Err(field::unknown(&name, &schema));
            }
            let value = field::checked(&name, value, described)?;
            let only = Map::from_iter([(name.clone(), value.clone())]);
            if of_request {
                let read = Request::default().overlaid(&only);
                read.map_err(|error| field::unusable(&name, &error))?;
                said.insert(name, value);
            } else {
                start.insert(name, value);
            }
        }
        let start = serde_json::from_value(Value::Object(start));
        Ok(Self { said, start: start.map_err(|error| error.to_string())? })
    }

    /// The servers that it speaks of, out of those of the app's settings.
    pub(in crate::app) fn servers(&self, servers: &Servers) -> Servers {
        match &self.start.database {
            Some(database) => servers.with_database(database),
            None => servers.clone(),
        }
    }

    /// The request, checked as far as that goes without the servers.
    ///
    /// # Errors
    /// Refused; names the field.
    pub(in crate::app) fn request(&self, defaults: &Request) -> Result<Request, Error> {
        let request = defaults.overlaid(&self.said).map_err(|error| {
            Error::refused("the body does not go together with the app's settings").because(error)
        })?;
        request.check()?;
        if request.sinks.iter().any(|sink| matches!(sink, SinkTarget::Ndjson(_))) {
            return Err(Error::refused(
                "`sinks` has a file, and the app writes no files, which would be gone with its \
                 instance: use delta-table or event-hub:<namespace>/<hub>, or the command \
                 deltacompare run for a file",
            ));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Accept, StrategyChoice, TableName, Verify};

    fn body(body: &str) -> Result<RecoveryRequest, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        read(&headers, Ok(Bytes::copy_from_slice(body.as_bytes())))
            .map(|(_, request)| request)
            .map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_body_takes_the_words_of_the_command_line() {
        let request = body(
            r#"{"tables": ["shop.orders", "\"S.x\".\"T\""], "sinks": ["delta-table"],
                "strategy": "content", "verify": "full", "lost_at_lsn": "0/F000000",
                "parallel": 8.0, "max_events_per_second": null, "accept": ["hole"],
                "debezium": {"topic.prefix": "shop"}, "fdw": {"port": 5433},
                "database": "shop", "allow_concurrent": true}"#,
        )
        .unwrap();
        assert_eq!(request.start.database.as_deref(), Some("shop"));
        assert!(request.start.allow_concurrent);
        let request = request.request(&Request::default()).unwrap();
        assert_eq!(request.strategy, StrategyChoice::Content);
        assert_eq!(request.verify, Verify::Full);
        assert_eq!(request.lost_at_lsn, Some("0/F000000".parse().unwrap()));
        assert_eq!(request.parallel, 8);
        assert_eq!(request.accept, [Accept::Hole]);
        assert_eq!(request.debezium.options().topic_prefix, "shop");
        assert_eq!(request.fdw.port, Some(5433));
        assert_eq!(
            request.tables,
            [
                TableName { schema: "shop".into(), name: "orders".into() },
                TableName { schema: "S.x".into(), name: "T".into() },
            ]
        );
    }

    /// Every field of a request is described, but for what is hidden or means nothing in the app.
    #[test]
    fn every_field_is_described_and_every_one_that_is_described_is_read() {
        let schema = serde_json::to_value(RecoveryRequest::schema()).unwrap();
        let described: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let mut known = Request::field_names();
        known.retain(|name| !["range_blocks", "ndjson_keys"].contains(&name.as_str()));
        known.extend(["database", "allow_concurrent"].map(str::to_owned));
        known.sort_unstable();
        let mut sorted = described.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, known.iter().collect::<Vec<_>>());
        assert!(schema["required"].is_null(), "{schema:#}");
    }

    #[test]
    fn what_a_body_gets_wrong_is_named_in_words_of_the_api() {
        for (text, says) in [
            (r#"{"sink": ["delta-table"]}"#, "there is no field `sink`; did you mean sinks?"),
            (r#"{"strategy": "quick"}"#, "`strategy` must be auto, row-versions, content or full"),
            (
                r#"{"tables": ["orders"]}"#,
                "`tables` cannot be used: \"orders\" is not a table's name",
            ),
            (r#"{"tables": "s.orders"}"#, "`tables` must be a list"),
            (r#"{"tables": [1]}"#, "`tables` must be a list of texts"),
            (r#"{"lost_at_lsn": "here"}"#, "`lost_at_lsn` cannot be used: \"here\" is not an LSN"),
            (r#"{"parallel": 1.5}"#, "`parallel` must be a whole number from 1 to 256"),
            (r#"{"parallel": 0}"#, "`parallel` must be a whole number from 1 to 256"),
            (r#"{"parallel": null}"#, "`parallel` must be a whole number from 1 to 256"),
            (r#"{"parallel": "8"}"#, "`parallel` must be a whole number from 1 to 256"),
            (r#"{"cloud_events": "yes"}"#, "`cloud_events` must be true or false"),
            (
                r#"{"max_bytes_per_second": 0}"#,
                "`max_bytes_per_second` must be a whole number from 1",
            ),
            (r#"{"fdw": {"port": 65536}}"#, "`fdw.port` must be a whole number from 0 to 65535"),
            (r#"{"fdw": {"hosts": "a"}}"#, "there is no field `fdw.hosts`; did you mean host?"),
            (r#"{"debezium": {"snapshot.mode": "x"}}"#, "no field `debezium.snapshot.mode`"),
            (
                r#"{"debezium": {"decimal.handling.mode": "text"}}"#,
                "`debezium.decimal.handling.mode` must be precise, double or string",
            ),
            (r#"{"debezium": {"topic.prefix": "a\u0000b"}}"#, "U+0000"),
            (r#"{"accept": ["holes"]}"#, "`accept` must be a list of"),
            (r#"{"sinks": ["delta_table"]}"#, "did you mean delta-table?"),
            (r#"{"recorded": {"base": "a\u0000"}}"#, "U+0000; leave it out of `recorded`"),
            (r#"{"recorded": {"base": 1}}"#, "`recorded` must be what deltacompare record wrote"),
            (r#"{"range_blocks": 0.5}"#, "`range_blocks` cannot be used"),
            (r#"{"parallel": 1, "parallel": 2}"#, "`parallel` is given twice"),
            ("[]", "must be a JSON object"),
            ("1", "must be a JSON object"),
            ("{", "EOF"),
            ("", "EOF"),
        ] {
            let problem = body(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(problem.contains(says), "{text}: {problem}");
            for foreign in ["u16", "u32", "u64", "nonzero", "struct", "--", "variant", "sequence"] {
                assert!(!problem.contains(foreign), "{text}: {problem}");
            }
        }
        let plain = read(&HeaderMap::new(), Ok(Bytes::from_static(b"{}")));
        assert!(plain.unwrap_err().detail().contains("Content-Type"));
    }
}
