//! Tables and settings for the tests of events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::settings::EncoderSettings;
use crate::catalog::{BaseType, Column, Key, ReplicaIdentity, Table};
use crate::diff::{Change, Image, RowChange};
use crate::model::{BeforeImage, DebeziumOptions, Format, TableName};

/// 00000000-0000-0000-0000-000000000001, `shop`, 2024-02-29T12:34:56.789Z.
pub(super) fn settings(format: Format) -> EncoderSettings {
    EncoderSettings {
        recovery_id: Uuid::from_u128(1),
        database: "shop".into(),
        server_name: "srv".into(),
        format,
        recovered_at: Timestamp::from_millisecond(1_709_210_096_789).unwrap(),
        before: BeforeImage::ReplicaIdentity,
        debezium: DebeziumOptions::default(),
        version: None,
    }
}

/// A nullable column of a built-in type without modifier.
pub(super) fn column(name: &str, type_name: &str, oid: u32) -> Column {
    Column {
        name: name.into(),
        attnum: 1,
        declared: type_name.into(),
        base: BaseType { oid, schema: "pg_catalog".into(), name: type_name.into(), kind: 'b' },
        typmod: -1,
        element: None,
        not_null: false,
    }
}

/// `public.t`.
pub(super) fn table(columns: Vec<Column>, key: Key, replica_identity: ReplicaIdentity) -> Table {
    let name = TableName { schema: "public".into(), name: "t".into() };
    Table { name, columns, key, replica_identity, partitions: BTreeMap::new() }
}

pub(super) fn image(values: &[Option<&str>]) -> Image {
    values.iter().copied().collect()
}

pub(super) fn change(row: RowChange) -> Change {
    Change::new(row, 0)
}
