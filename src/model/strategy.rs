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

/// `--strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum StrategyChoice {
    /// The best that each table allows.
    Auto,
    /// Compare row versions where that is sound, as auto does.
    RowVersions,
    /// Compare checksums of key ranges.
    Content,
    /// Read every row of both sides.
    Full,
}
