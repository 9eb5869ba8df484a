//! How events look.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The format of an event's body.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The envelope of Debezium's PostgreSQL connector without schema.
    #[default]
    Debezium,
    /// Flat and lossless.
    Landing,
}

/// What events say of old rows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum BeforeImage {
    /// What the stream would have sent under the table's replica identity.
    #[default]
    ReplicaIdentity,
    /// The whole old row, always.
    Full,
}

/// `decimal.handling.mode`: `numeric` and `money`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum DecimalMode {
    /// The unscaled integer's bytes in base64.
    #[default]
    Precise,
    /// The nearest double.
    Double,
    /// The decimal text.
    String,
}

/// `time.precision.mode`: `date`, `time` and `timestamp`, never the types with a time zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum TimePrecision {
    /// Milliseconds for a declared precision up to 3, otherwise microseconds.
    #[default]
    Adaptive,
    /// As adaptive, but `time` is always in microseconds.
    AdaptiveTimeMicroseconds,
    /// Always milliseconds: Kafka Connect's own types.
    Connect,
    /// ISO 8601 in UTC.
    Isostring,
    /// Always microseconds.
    Microseconds,
    /// Always nanoseconds.
    Nanoseconds,
}

/// `binary.handling.mode`: `bytea`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BinaryMode {
    /// Bytes, which JSON carries as base64.
    #[default]
    Bytes,
    /// Base64.
    Base64,
    /// Base64 with the URL-safe alphabet.
    Base64UrlSafe,
    /// Hexadecimal.
    Hex,
}

/// `interval.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMode {
    /// Approximate microseconds, a month being 365.25 / 12 days.
    #[default]
    Numeric,
    /// `P1Y2M3DT4H5M6.789S`
    String,
}

/// `hstore.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum HstoreMode {
    /// A string that contains a JSON object.
    #[default]
    Json,
    /// A JSON object.
    Map,
}
