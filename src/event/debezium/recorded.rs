//! What Debezium's connector really wrote, against what we write.
//!
//! `recorded.jsonl` was recorded on PostgreSQL 15 from connector 3.6.3.Final (plugin pgoutput,
//! `JsonConverter` without schemas, JVM at UTC): one line a value, with the text that the type's
//! output function prints under our settings, and the JSON of the field under six settings:
//!
//! | name | settings |
//! |---|---|
//! | default | none |
//! | double | decimal double, time adaptive_time_microseconds, binary base64, interval string, hstore map |
//! | string | decimal string, time connect, binary hex |
//! | isostring | time isostring, binary base64-url-safe |
//! | micros | time microseconds |
//! | nanos | time nanoseconds |
//!
//! `all` stands for all six; null for a column that the connector leaves out; `java` for arrays of
//! strings of several dimensions, of which the connector writes the addresses of Java objects.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::DebeziumValue;
use crate::catalog::{BaseType, Column, Key, ReplicaIdentity};
use crate::diff::{Image, RowChange};
use crate::event::encoder::Encoder;
use crate::event::testing;
use crate::event::value::{Fidelity, WriteValue};
use crate::model::{
    BinaryMode, DebeziumOptions, DecimalMode, Format, HstoreMode, IntervalMode, TimePrecision,
};

#[derive(Deserialize)]
struct Recording {
    #[serde(flatten)]
    declaration: Declaration,
    image: Option<String>,
    written: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
struct Declaration {
    #[serde(default)]
    column: String,
    #[serde(default)]
    not_null: bool,
    declared: String,
    oid: u32,
    schema: String,
    name: String,
    kind: char,
    typmod: i32,
    element: Option<(u32, String, char)>,
}

impl Declaration {
    fn column(&self) -> Column {
        let schema = self.schema.clone();
        Column {
            name: self.column.clone(),
            attnum: 2,
            declared: self.declared.clone(),
            base: BaseType { oid: self.oid, schema, name: self.name.clone(), kind: self.kind },
            typmod: self.typmod,
            element: self.element.clone().map(|(oid, name, kind)| BaseType {
                oid,
                schema: self.schema.clone(),
                name,
                kind,
            }),
            not_null: self.not_null,
        }
    }
}

fn options(name: &str) -> DebeziumOptions {
    let options = DebeziumOptions::default();
    match name {
        "double" => DebeziumOptions {
            decimal: DecimalMode::Double,
            time_precision: TimePrecision::AdaptiveTimeMicroseconds,
            binary: BinaryMode::Base64,
            interval: IntervalMode::String,
            hstore: HstoreMode::Map,
            ..options
        },
        "string" => DebeziumOptions {
            decimal: DecimalMode::String,
            time_precision: TimePrecision::Connect,
            binary: BinaryMode::Hex,
            ..options
        },
        "isostring" => DebeziumOptions {
            time_precision: TimePrecision::Isostring,
            binary: BinaryMode::Base64UrlSafe,
            ..options
        },
        "micros" => DebeziumOptions { time_precision: TimePrecision::Microseconds, ..options },
        "nanos" => DebeziumOptions { time_precision: TimePrecision::Nanoseconds, ..options },
        _ => options,
    }
}

/// Values that we write otherwise on purpose, with what we write: `docs/events.md`, "Deviations".
fn deviation(recording: &Recording, mode: &str) -> Option<&'static str> {
    let image = recording.image.as_deref()?;
    let iso = mode == "isostring";
    Some(match (recording.declaration.name.as_str(), image) {
        ("_date", "{1970-01-02,NULL,\"0044-03-15 BC\"}") if iso => {
            r#"["1970-01-02Z",null,"-0043-03-15Z"]"#
        }
        ("_date", "{1970-01-02,NULL,\"0044-03-15 BC\"}") => "[1,null,-735160]",
        ("_date", "{infinity}") if iso => r#"["-5877611-06-21Z"]"#,
        ("_date", "{infinity}") => "[-2147472692]",
        ("_time", "{24:00:00}") => match mode {
            "string" => "[86400000]",
            "isostring" => r#"["00:00:00Z"]"#,
            "nanos" => "[86400000000000]",
            _ => "[86400000000]",
        },
        ("_numeric", "{1,1.10,NULL,NaN}") => match mode {
            "double" => r#"[1.0,1.1,null,"NaN"]"#,
            "string" => r#"["1","1.10",null,"NAN"]"#,
            _ => return None,
        },
        ("_timetz", "{12:34:56.7+02,NULL}") => r#"["10:34:56.7Z",null]"#,
        ("_timestamp", "{\"0044-03-15 12:00:00.5 BC\"}") => match mode {
            "string" => "[-63517780799500]",
            "isostring" => r#"["-0043-03-15T12:00:00.5Z"]"#,
            "nanos" => "null",
            _ => "[-63517780799500000]",
        },
        ("_timestamptz", "{\"0044-03-15 12:00:00.5+00 BC\"}") => {
            r#"["-0043-03-15T12:00:00.500000Z"]"#
        }
        _ => return None,
    })
}

/// As a consumer reads it: hstore's fields in any order, float4 as such (Java before 19 did not
/// print the shortest digits).
fn read(json: &str, name: &str) -> Value {
    let value: Value = serde_json::from_str(json).unwrap();
    match (&value, name) {
        (Value::String(inside), "hstore") => serde_json::from_str(inside).unwrap(),
        (Value::Number(number), "float4") => Value::from(number.as_f64().unwrap() as f32),
        _ => value,
    }
}

#[test]
fn values_are_written_as_the_connector_writes_them() {
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in include_str!("recorded.jsonl").lines() {
        let recording: Recording = serde_json::from_str(line).unwrap();
        for mode in ["default", "double", "string", "isostring", "micros", "nanos"] {
            let theirs = recording.written.get("all").or_else(|| recording.written.get(mode));
            let theirs = theirs.unwrap().as_deref();
            let chosen = DebeziumValue::of(&recording.declaration.column(), &options(mode));
            let ours = chosen.value.map(|value| match &recording.image {
                None => "null".to_owned(),
                Some(image) => {
                    let mut out = Vec::new();
                    let fidelity = value.write(image, &mut out);
                    let text = String::from_utf8(out).unwrap();
                    if text == "null" {
                        assert_eq!(fidelity, Ok(Fidelity::Lost), "{line}");
                    }
                    match fidelity {
                        Ok(_) => text,
                        Err(malformed) => format!("\"{}\"", malformed.0),
                    }
                }
            });
            compared += 1;
            let expected = match theirs {
                Some("java") => {
                    assert!(ours.as_deref().unwrap().starts_with("[null"), "{line}");
                    continue;
                }
                theirs => deviation(&recording, mode).or(theirs),
            };
            let name = &recording.declaration.name;
            let same = match (&ours, expected) {
                (Some(ours), Some(expected)) => read(ours, name) == read(expected, name),
                (ours, expected) => ours.is_none() && expected.is_none(),
            };
            if !same {
                let (declared, image) = (&recording.declaration.declared, &recording.image);
                wrong.push(format!("{mode} {declared} {image:?}: {ours:?} for {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 4000);
}

/// `recorded_row.json`: a table with a column of most types, declared not null, under replica
/// identity DEFAULT; its row as it was inserted, and what the connector says when it is deleted.
#[derive(Deserialize)]
struct RecordedRow {
    columns: Vec<Declaration>,
    image: Vec<Option<String>>,
    events: BTreeMap<String, BTreeMap<String, RecordedEvent>>,
}

#[derive(Deserialize)]
struct RecordedEvent {
    key: Value,
    value: Value,
}

#[test]
fn rows_are_written_as_the_connector_writes_them() {
    let recorded: RecordedRow = serde_json::from_str(include_str!("recorded_row.json")).unwrap();
    let columns = recorded.columns.iter().map(Declaration::column).collect();
    let table = testing::table(columns, Key::Columns(vec![0]), ReplicaIdentity::Default);
    let image: Image = recorded.image.iter().map(Option::as_deref).collect();
    assert_eq!(recorded.events.len(), 5);
    for (mode, events) in recorded.events {
        let mut settings = testing::settings(Format::Debezium);
        settings.debezium = options(&mode);
        let mut encoder = Encoder::new(&settings, &table, &table.columns);
        for (op, theirs) in events {
            let row = match op.as_str() {
                "insert" => RowChange::Insert(image.clone()),
                _ => RowChange::Delete(image.clone()),
            };
            let ours = encoder.encode(testing::change(row)).unwrap();
            let key: Value = serde_json::from_slice(&ours.key.unwrap()).unwrap();
            assert_eq!(key, theirs.key);
            let ours: Value = serde_json::from_slice(&ours.body).unwrap();
            let mut expected = theirs.value;
            // Deviation: we know no defaults, and write null for null.
            if op == "insert" {
                expected["after"]["dflt"] = Value::Null;
            } else {
                expected["before"]["dflt"] = Value::Null;
                expected["before"]["nd"] = 0.into();
            }
            for part in ["before", "after", "op"] {
                assert_eq!(ours[part], expected[part], "{mode} {op} {part}");
            }
            // The fields of the envelope are the connector's, and two of ours in `source`.
            let fields = |value: &Value| -> Vec<String> {
                value.as_object().unwrap().keys().cloned().collect()
            };
            assert_eq!(fields(&ours), fields(&expected));
            let source = &mut expected["source"];
            source["recovery_id"] = Value::Null;
            source["event_id"] = Value::Null;
            assert_eq!(fields(&ours["source"]), fields(source));
        }
    }
}
