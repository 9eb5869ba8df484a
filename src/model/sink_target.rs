//! Where events go.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{HubAddress, nearest};
use crate::error::{Error, Result};

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SinkTarget {
    /// A file, one event a line.
    Ndjson(PathBuf),
    /// `deltacompare.delta` in the control database.
    DeltaTable,
    /// A hub of Azure Event Hubs.
    EventHub(HubAddress),
}

const KINDS: [&str; 3] = ["event-hub", "ndjson", "delta-table"];

impl fmt::Display for SinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ndjson(path) => write!(f, "ndjson:{}", path.display()),
            Self::DeltaTable => f.write_str("delta-table"),
            Self::EventHub(address) => write!(f, "event-hub:{address}"),
        }
    }
}

impl FromStr for SinkTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("ndjson", path)) if !path.is_empty() => Ok(Self::Ndjson(path.into())),
            Some(("event-hub", address)) => address.parse().map(Self::EventHub),
            None if text == "delta-table" => Ok(Self::DeltaTable),
            // Not repeated: it may be a connection string in the wrong place.
            _ => Err(Error::refused(format!(
                "this is not a sink{}; use event-hub:<namespace>/<hub>, ndjson:<file> or delta-table",
                nearest(text.split(':').next().unwrap_or_default(), &KINDS)
            ))),
        }
    }
}

impl TryFrom<String> for SinkTarget {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<SinkTarget> for String {
    fn from(sink: SinkTarget) -> Self {
        sink.to_string()
    }
}

/// What the app takes. Files have no place in it.
const OF_THE_APP: &str = r"^(delta-table|event-hub:[A-Za-z0-9-]{1,50}(\.servicebus\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net|cloudapi\.de))?/[A-Za-z0-9._-]{1,256})$";

impl PartialSchema for SinkTarget {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(OF_THE_APP)).build().into()
    }
}

impl ToSchema for SinkTarget {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_sink_is_told_of_the_sinks_and_not_repeated() {
        for (text, nearest) in [
            ("delta_table", "; did you mean delta-table?"),
            ("eventhub:shop/orders", "; did you mean event-hub?"),
            ("Endpoint=sb://shop/;SharedAccessKey=hunter2", ""),
            ("ndjson:", "; did you mean ndjson?"),
            ("delta-table:x", "; did you mean delta-table?"),
        ] {
            let error = text.parse::<SinkTarget>().unwrap_err().to_string();
            assert!(error.contains(&format!("not a sink{nearest}; use event-hub:")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
