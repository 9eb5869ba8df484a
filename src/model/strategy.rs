//! How tables are compared.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How a table is diffed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Compare which row versions both sides have, read only those that one side has.
    RowVersions,
    /// Compare checksums of key ranges, read only rows of ranges that differ.
    Content,
    /// Read every row of both sides and join on head.
    Full,
}

impl Strategy {
    /// Its name in requests, reports and the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RowVersions => "row-versions",
            Self::Content => "content",
            Self::Full => "full",
        }
    }
}

/// How tables are to be compared.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum StrategyChoice {
    /// The best that each table allows, in the order that follows
    Auto,
    /// Compare row versions; reads little more than what changed
    RowVersions,
    /// Compare checksums of key ranges, or of all rows of a table without a key; reads everything,
    /// ships what differs
    Content,
    /// Bring every row of both sides together on head
    Full,
}
