//! What consumers may rely on: keys, old rows, envelopes, repetition.

use serde_json::{Value, json};

use super::encoder::{Encoder, Event};
use super::settings::EncoderSettings;
use super::testing::{change, column, image, settings, table};
use crate::catalog::{Key, ReplicaIdentity, Table};
use crate::diff::{Change, Image, RowChange};
use crate::model::{BeforeImage, Format, Op};

/// `(b int not null, a int not null, t text)`
fn columns() -> Vec<crate::catalog::Column> {
    let mut columns = vec![
        column("b", "int4", 23),
        column("a", "int4", 23),
        column("t", "text", 25),
        column("n", "text", 25),
    ];
    columns.iter_mut().take(3).for_each(|column| column.not_null = true);
    columns
}

fn keyed(identity: ReplicaIdentity) -> Table {
    table(columns(), Key::Columns(vec![1, 0]), identity)
}

fn keyless(identity: ReplicaIdentity) -> Table {
    table(columns(), Key::WholeRow, identity)
}

fn old() -> Image {
    image(&[Some("1"), Some("2"), Some("old"), None])
}

fn new() -> Image {
    image(&[Some("1"), Some("2"), Some("new"), None])
}

fn delete() -> Change {
    change(RowChange::Delete(old()))
}

fn update() -> Change {
    change(RowChange::Update { before: old(), after: new() })
}

fn encode(settings: &EncoderSettings, table: &Table, change: &Change) -> (Event, Value) {
    let event = Encoder::new(settings, table, &table.columns).encode(change.clone()).unwrap();
    assert!(!event.body.contains(&b'\n'));
    let body = serde_json::from_slice(&event.body).unwrap();
    (event, body)
}

fn body(settings: &EncoderSettings, table: &Table, change: &Change) -> Value {
    encode(settings, table, change).1
}

#[test]
fn a_landing_event_from_end_to_end() {
    let mut settings = settings(Format::Landing);
    settings.version = Some(0x16_B374_8000);
    let (event, _) = encode(&settings, &keyed(ReplicaIdentity::Default), &update());
    let expected = r#"{"op":"U","schema":"public","table":"t","key":{"a":2,"b":1},"before":null,"after":{"b":1,"a":2,"t":"new","n":null},"recovery_id":"00000000-0000-0000-0000-000000000001","event_id":"ID","ts":"2024-02-29T12:34:56.789Z","version":97500037120}"#;
    let expected = expected.replace("ID", &event.id.to_string());
    assert_eq!(std::str::from_utf8(&event.body).unwrap(), expected);
    assert_eq!(event.op, Op::Update);
    assert_eq!(event.key.as_deref(), Some(br#"{"a":2,"b":1}"#.as_slice()));
    assert_eq!(event.table.to_string(), "public.t");
}

#[test]
fn a_debezium_event_from_end_to_end() {
    let settings = settings(Format::Debezium);
    let (event, _) = encode(&settings, &keyed(ReplicaIdentity::Default), &update());
    let expected = concat!(
        r#"{"before":null,"after":{"b":1,"a":2,"t":"new","n":null},"source":{"version":"deltacompare "#,
        env!("CARGO_PKG_VERSION"),
        r#"","connector":"postgresql","name":"srv","ts_ms":1709210096789,"snapshot":"false","db":"shop","sequence":"[null,null]","ts_us":1709210096789000,"ts_ns":1709210096789000000,"schema":"public","table":"t","txId":null,"lsn":null,"xmin":null,"origin":null,"origin_lsn":null,"recovery_id":"00000000-0000-0000-0000-000000000001","event_id":"ID"},"transaction":null,"op":"u","ts_ms":1709210096789,"ts_us":1709210096789000,"ts_ns":1709210096789000000}"#
    );
    assert_eq!(
        std::str::from_utf8(&event.body).unwrap(),
        expected.replace("ID", &event.id.to_string())
    );
    assert_eq!(event.key.as_deref(), Some(br#"{"a":2,"b":1}"#.as_slice()));
}

#[test]
fn the_version_is_the_lsn() {
    let mut settings = settings(Format::Debezium);
    settings.version = Some(u64::MAX);
    let source = body(&settings, &keyed(ReplicaIdentity::Default), &delete())["source"].clone();
    assert_eq!(source["lsn"], json!(u64::MAX));
    let both = format!("[\"{}\",\"{}\"]", u64::MAX, u64::MAX);
    assert_eq!(source["sequence"], json!(both));
}

#[test]
fn an_old_row_is_told_as_its_partition_says() {
    use ReplicaIdentity::{Default, Full};
    for format in [Format::Landing, Format::Debezium] {
        for (of_table, of_partition) in [(Default, Full), (Full, Default)] {
            let alone = |identity| {
                let settings = settings(format);
                let of = |change| body(&settings, &keyed(identity), &change)["before"].clone();
                [of(delete()), of(update())]
            };
            let mut table = keyed(of_table);
            table.partitions.insert(7, of_partition);
            for (partition, identity) in
                [(None, of_table), (Some(6), of_table), (Some(7), of_partition)]
            {
                let settings = settings(format);
                let of = |change| {
                    let change = Change { partition, ..change };
                    body(&settings, &table, &change)["before"].clone()
                };
                assert_eq!([of(delete()), of(update())], alone(identity), "{partition:?}");
            }
        }
    }
}

#[test]
fn old_rows_in_landing() {
    use ReplicaIdentity::{Default, Full, Index, Nothing};
    let whole = json!({"b": 1, "a": 2, "t": "old", "n": null});
    let key = json!({"a": 2, "b": 1});
    let mut settings = settings(Format::Landing);
    for (table, of_delete, of_update) in [
        (keyed(Default), &key, &Value::Null),
        (keyed(Index), &key, &Value::Null),
        (keyed(Full), &whole, &whole),
        (keyed(Nothing), &whole, &Value::Null),
        (keyless(Default), &whole, &Value::Null),
        (keyless(Full), &whole, &whole),
        (keyless(Nothing), &whole, &Value::Null),
    ] {
        assert_eq!(&body(&settings, &table, &delete())["before"], of_delete);
        assert_eq!(&body(&settings, &table, &update())["before"], of_update);
        settings.before = BeforeImage::Full;
        assert_eq!(body(&settings, &table, &delete())["before"], whole);
        assert_eq!(body(&settings, &table, &update())["before"], whole);
        let insert = change(RowChange::Insert(new()));
        assert_eq!(body(&settings, &table, &insert)["before"], Value::Null);
        settings.before = BeforeImage::ReplicaIdentity;
    }
}

#[test]
fn old_rows_in_debezium() {
    use ReplicaIdentity::{Default, Full, Nothing};
    let whole = json!({"b": 1, "a": 2, "t": "old", "n": null});
    // A column declared not null has the connector's fallback where only the key is known.
    let key = json!({"b": 1, "a": 2, "t": "", "n": null});
    let settings = settings(Format::Debezium);
    for (table, of_delete) in
        [(keyed(Default), &key), (keyed(Full), &whole), (keyed(Nothing), &whole)]
    {
        let body = body(&settings, &table, &delete());
        assert_eq!((&body["before"], &body["after"]), (of_delete, &Value::Null));
        assert_eq!(body["op"], "d");
    }
    assert_eq!(body(&settings, &keyed(Default), &update())["before"], Value::Null);
    assert_eq!(body(&settings, &keyed(Full), &update())["before"], whole);
}

#[test]
fn rows_without_a_key_are_told_apart_by_their_ordinal() {
    for format in [Format::Landing, Format::Debezium] {
        let table = keyless(ReplicaIdentity::Nothing);
        let settings = settings(format);
        let (first, _) = encode(&settings, &table, &delete());
        let (second, _) = encode(&settings, &table, &Change { ordinal: 1, ..delete() });
        assert_eq!((&first.key, &second.key), (&None, &None));
        assert_ne!(first.id, second.id);
    }
}

#[test]
fn the_same_change_is_the_same_bytes() {
    for format in [Format::Landing, Format::Debezium] {
        let (settings, table) = (settings(format), keyed(ReplicaIdentity::Full));
        let mut encoder = Encoder::new(&settings, &table, &table.columns);
        let first = encoder.encode(update()).unwrap();
        encoder.encode(delete()).unwrap();
        assert_eq!(encoder.encode(update()).unwrap(), first);
        assert_eq!(
            Encoder::new(&settings, &table, &table.columns).encode(update()).unwrap(),
            first
        );
    }
}

#[test]
fn hostile_names_stay_names() {
    let mut columns = vec![column("a\"},\\\n", "int4", 23)];
    columns.push(column("ключ", "text", 25));
    let mut table = table(columns, Key::Columns(vec![0]), ReplicaIdentity::Full);
    table.name.name = "x\"; drop table y; --\n".into();
    let insert = change(RowChange::Insert(image(&[Some("1"), Some("\"")])));
    for format in [Format::Landing, Format::Debezium] {
        let (event, body) = encode(&settings(format), &table, &insert);
        assert_eq!(body["after"], json!({"a\"},\\\n": 1, "ключ": "\""}));
        let key: Value = serde_json::from_slice(&event.key.unwrap()).unwrap();
        assert_eq!(key, json!({"a\"},\\\n": 1}));
    }
}

#[test]
fn errors_name_the_place_and_not_the_value() {
    let settings = settings(Format::Landing);
    let mut encoder = Encoder::new(&settings, &keyed(ReplicaIdentity::Default), &columns());
    let secret = image(&[Some("secret"), Some("2"), Some("x"), None]);
    let message = encoder.encode(change(RowChange::Insert(secret))).unwrap_err().to_string();
    assert!(message.starts_with("public.t, column b of type int4: the value is not an integer;"));
    assert!(!message.contains("secret"));
    let short = image(&[Some("1")]);
    let message = encoder.encode(change(RowChange::Insert(short))).unwrap_err().to_string();
    assert!(message.contains("a row of 1 values for 4 columns"), "{message}");
    assert!(encoder.encode(update()).is_ok());
}

#[test]
fn old_rows_are_told_by_the_types_that_they_had() {
    let table = keyed(ReplicaIdentity::Full);
    let mut base = columns();
    // `b` was text, `t` a range and `n` a type that the connector leaves out.
    base[0] = column("b", "text", 25);
    base[2] = column("t", "int4range", 3904);
    base[3] = column("n", "int4multirange", 4451);
    let old = || image(&[Some("one"), Some("2"), Some("[1,5)"), Some("{}")]);
    for format in [Format::Landing, Format::Debezium] {
        let settings = settings(format);
        let mut encoder = Encoder::new(&settings, &table, &base);
        let delete = encoder.encode(change(RowChange::Delete(old()))).unwrap();
        let key: Value = serde_json::from_slice(&delete.key.unwrap()).unwrap();
        assert_eq!(key, json!({"a": 2, "b": "one"}));
        let update = change(RowChange::Update { before: old(), after: new() });
        let update: Value = serde_json::from_slice(&encoder.encode(update).unwrap().body).unwrap();
        assert_eq!(update["before"], json!({"b": "one", "a": 2, "t": "[1,5)", "n": "{}"}));
        assert_eq!(update["after"], json!({"b": 1, "a": 2, "t": "new", "n": null}));
    }
    let settings = settings(Format::Debezium);
    let mut encoder = Encoder::new(&settings, &keyed(ReplicaIdentity::Default), &base);
    let delete = encoder.encode(change(RowChange::Delete(old()))).unwrap();
    let delete: Value = serde_json::from_slice(&delete.body).unwrap();
    assert_eq!(delete["before"], json!({"b": "one", "a": 2, "t": null, "n": null}));
}

#[test]
fn a_table_without_columns_has_empty_rows() {
    let table = table(Vec::new(), Key::WholeRow, ReplicaIdentity::Full);
    for format in [Format::Landing, Format::Debezium] {
        let insert = change(RowChange::Insert(image(&[])));
        assert_eq!(body(&settings(format), &table, &insert)["after"], json!({}));
    }
}

#[test]
fn columns_that_debezium_does_not_know_are_left_out_with_a_warning() {
    let columns = vec![
        column("id", "int4", 23),
        column("span", "int4multirange", 4451),
        column("owner", "name", 19),
    ];
    let table = table(columns, Key::Columns(vec![0]), ReplicaIdentity::Default);
    let row = image(&[Some("1"), Some("{[1,5)}"), Some("me")]);
    let insert = change(RowChange::Insert(row));
    let mut encoder = Encoder::new(&settings(Format::Debezium), &table, &table.columns);
    let event = encoder.encode(insert.clone()).unwrap();
    let sent: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!(sent["after"], json!({"id": 1, "owner": null}));
    assert_eq!(encoder.warnings().len(), 2);
    assert!(encoder.warnings()[0].starts_with("public.t: column span (int4multirange): left out"));
    assert_eq!(encoder.lost_values(), 1);
    let landing = settings(Format::Landing);
    let sent = body(&landing, &table, &insert);
    assert_eq!(sent["after"], json!({"id": 1, "span": "{[1,5)}", "owner": "me"}));
    assert!(Encoder::new(&landing, &table, &table.columns).warnings().is_empty());
}
