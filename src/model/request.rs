//! What an operator asks for: every option of a recovery, defined once.
//!
//! Each field of [`Request`] is one option. Its definition says what it is called on the command line
//! and in the environment (clap) and in the HTTP API and in the status store (serde, utoipa), what it
//! may be, its default, and what it means. Help, manual, docs/cli.md, local.settings.example.json and
//! the OpenAPI document come from there.

use std::sync::LazyLock;

use clap::{Args, Command, FromArgMatches, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::inline_schema::inlined;
use super::option_group::{CHECKS, FORMAT, SELECTION, SINKS, TUNING};
use super::{
    BeforeImage, DebeziumProperties, EventHubOptions, FdwOverrides, Format, Lsn, Record,
    SinkTarget, StrategyChoice, TableName, table_name,
};
use crate::error::{Error, Result};

/// Everything about a recovery but how to log in. Stored with the recovery; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Args, ToSchema)]
#[serde(default)]
pub struct Request {
    /// Only this publication's tables [default: every table of every publication]
    ///
    /// May be repeated, as a slot may read several.
    #[arg(long = "publication", env = "DELTACOMPARE_PUBLICATION", value_name = "NAME",
          help_heading = SELECTION)]
    pub publications: Vec<String>,
    /// Only this table; may be repeated
    ///
    /// A table that is in no publication is compared whole.
    #[arg(long = "table", value_name = "SCHEMA.TABLE", help_heading = SELECTION)]
    #[serde(with = "table_name::as_text")]
    #[schema(schema_with = table_name::list_schema)]
    pub tables: Vec<TableName>,
    /// Not this table; may be repeated
    #[arg(long, value_name = "SCHEMA.TABLE", help_heading = SELECTION)]
    #[serde(with = "table_name::as_text")]
    #[schema(schema_with = table_name::list_schema)]
    pub exclude: Vec<TableName>,
    /// How tables are compared
    ///
    /// A table that does not allow what is asked for takes the next strategy in this order, and the
    /// plan says why.
    #[arg(long, env = "DELTACOMPARE_STRATEGY", value_enum, default_value_t = StrategyChoice::Auto,
          help_heading = SELECTION)]
    #[schema(schema_with = inlined::<StrategyChoice>)]
    pub strategy: StrategyChoice,
    /// Where events go: event-hub:<namespace>/<hub>, ndjson:<file> or delta-table
    ///
    /// May be repeated. A file must be new or empty.
    #[arg(long = "sink", value_name = "SINK", help_heading = SINKS)]
    #[schema(inline)]
    pub sinks: Vec<SinkTarget>,
    /// Lines of a file are {"key":…,"value":…}
    ///
    /// The message key, as the connector builds it, and the event.
    #[arg(long, env = "DELTACOMPARE_NDJSON_KEYS", help_heading = SINKS)]
    #[schema(ignore)]
    pub ndjson_keys: bool,
    /// How events go into an event hub, if they do.
    #[command(flatten)]
    #[serde(flatten)]
    #[schema(ignore)]
    pub event_hub: EventHubOptions,
    /// How an event looks
    #[arg(long, env = "DELTACOMPARE_FORMAT", value_enum, default_value_t, help_heading = FORMAT)]
    #[schema(schema_with = inlined::<Format>)]
    pub format: Format,
    /// What an event says of the old row
    #[arg(long, env = "DELTACOMPARE_BEFORE", value_enum, default_value_t, help_heading = FORMAT)]
    #[schema(schema_with = inlined::<BeforeImage>)]
    pub before: BeforeImage,
    /// Properties of Debezium's connector, by their own names.
    #[command(flatten)]
    #[schema(schema_with = inlined::<DebeziumProperties>)]
    pub debezium: DebeziumProperties,
    /// What the lost slot had confirmed: its confirmed_flush_lsn
    #[arg(long, env = "DELTACOMPARE_LOST_AT_LSN", value_name = "LSN", help_heading = CHECKS)]
    #[schema(inline)]
    pub lost_at_lsn: Option<Lsn>,
    /// Where the new slot begins: its confirmed_flush_lsn at creation
    #[arg(long, env = "DELTACOMPARE_NEW_SLOT_LSN", value_name = "LSN", help_heading = CHECKS)]
    #[schema(inline)]
    pub new_slot_lsn: Option<Lsn>,
    /// The new slot's restart_lsn at creation
    ///
    /// The version that every event carries, by which consumers tell recovered events from streamed
    /// ones.
    #[arg(long, env = "DELTACOMPARE_NEW_SLOT_RESTART_LSN", value_name = "LSN",
          help_heading = CHECKS)]
    #[schema(inline)]
    pub new_slot_restart_lsn: Option<Lsn>,
    /// What the record command wrote of these two restores
    ///
    /// Shows that nobody altered them since then, and where they ended when their timeline histories
    /// can no longer be read.
    #[arg(long, env = "DELTACOMPARE_RECORDED", value_name = "FILE", help_heading = CHECKS,
          value_parser = Record::read)]
    pub recorded: Option<Record>,
    /// Go on although this is so; may be repeated
    ///
    /// The report says so.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',', help_heading = CHECKS)]
    #[schema(inline)]
    pub accept: Vec<Accept>,
    /// How results are proved
    #[arg(long, env = "DELTACOMPARE_VERIFY", value_enum, default_value_t, help_heading = CHECKS)]
    #[schema(schema_with = inlined::<Verify>)]
    pub verify: Verify,
    /// Percent of the equal blocks that verify sample compares
    #[arg(long, env = "DELTACOMPARE_SAMPLE_PERCENT", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=100), help_heading = CHECKS)]
    #[schema(minimum = 1, maximum = 100)]
    pub sample_percent: u8,
    /// How head reaches base.
    #[command(flatten)]
    #[schema(schema_with = inlined::<FdwOverrides>)]
    pub fdw: FdwOverrides,
    /// Tables, or parts of large ones, at once, in all processes together: 1 to 256
    ///
    /// Each takes a session on either server.
    #[arg(long, env = "DELTACOMPARE_PARALLEL", value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=256), help_heading = TUNING)]
    #[schema(minimum = 1, maximum = 256)]
    pub parallel: u16,
    /// Keep foreign tables, helper views and the role on base when it has ended
    #[arg(long, help_heading = TUNING)]
    pub keep_objects: bool,
    /// What this recovery is for, such as an incident's number; stands in report and status
    #[arg(long, value_name = "TEXT")]
    #[schema(min_length = 1, max_length = 200)]
    pub note: Option<String>,
    /// Blocks of 8 kB in one part of a large table [default: as many as take about 10 s]
    #[arg(long, env = "DELTACOMPARE_RANGE_BLOCKS", value_name = "N", hide = true,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = TUNING)]
    #[schema(ignore)]
    pub range_blocks: Option<u32>,
}

/// What a recovery of the app is told besides. No part of the recovery: it decides where and whether
/// one begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Args, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StartOptions {
    /// This database of the two servers [default: the one of the app's settings]
    #[arg(long, value_name = "NAME", requires = "app")]
    #[schema(min_length = 1, max_length = 63)]
    pub database: Option<String>,
    /// Begin although another recovery of the database is live
    #[arg(long, requires = "app")]
    pub allow_concurrent: bool,
}

/// What would be refused otherwise.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    /// A restore was written to or altered; what is there is compared, and the result is not proved
    Written,
    /// The restores do not cover the gap; what they leave out stays lost
    Hole,
    /// Both restores end at the same place, so that no change lies between them
    EmptyGap,
    /// A server is of a version or a make that nothing is known of; contents are compared
    UnknownVersion,
}

/// How results are proved.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Trust the strategy, and the account of each table
    #[default]
    None,
    /// Count the rows of every table on both sides, and fail it if its account does not balance
    Count,
    /// Compare the contents of some of the blocks that row-versions called equal, chosen by chance,
    /// and fail the table if they differ
    Sample,
    /// Compare every table once more by reading everything, count its rows, and fail it if the
    /// results differ
    Full,
}

/// The defaults, which the definitions of the options have.
static DEFAULT: LazyLock<Request> = LazyLock::new(|| {
    let command = Request::augment_args(Command::new("defaults").no_binary_name(true));
    let command = command.mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
    let defaults = command
        .try_get_matches_from([""; 0])
        .and_then(|matches| Request::from_arg_matches(&matches));
    defaults.unwrap_or_else(|error| unreachable!("every option has a default: {error}"))
});

impl Default for Request {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

/// What is laid over the defaults key by key; other fields are replaced as a whole.
const KEY_BY_KEY: [&str; 2] = ["debezium", "fdw"];

impl Request {
    /// The same without what was recorded of the restores.
    pub(crate) fn without_record(&self) -> Self {
        Self { recorded: None, ..self.clone() }
    }

    /// Whether the operator accepts this.
    pub(crate) fn accepts(&self, what: Accept) -> bool {
        self.accept.contains(&what)
    }

    /// The names of the fields, as the API has them.
    pub fn field_names() -> Vec<String> {
        let fields = serde_json::to_value(Self::default()).unwrap_or_default();
        fields.as_object().into_iter().flat_map(Map::keys).cloned().collect()
    }

    /// Lays what somebody said, by the names of [`Request::field_names`], over this. Other names are
    /// not looked at.
    ///
    /// # Errors
    /// A field cannot be used.
    pub fn overlaid(&self, said: &Map<String, Value>) -> serde_json::Result<Self> {
        let mut fields = serde_json::to_value(self)?;
        for (name, value) in said {
            match (&mut fields[name], value) {
                (Value::Object(known), Value::Object(more))
                    if KEY_BY_KEY.contains(&name.as_str()) =>
                {
                    known.extend(more.clone());
                }
                (field, value) => *field = value.clone(),
            }
        }
        serde_json::from_value(fields)
    }

    /// Whether its fields go together.
    ///
    /// # Errors
    /// Refused; names the options.
    pub fn check(&self) -> Result<()> {
        match self.tables.iter().find(|table| self.exclude.contains(table)) {
            Some(both) => Err(Error::refused(format!(
                "{both} is both in --table and in --exclude: take it out of one"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DebeziumOptions, PartitionBy};

    fn over(defaults: &Request, said: Value) -> Request {
        defaults.overlaid(said.as_object().unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_said_is_as_the_defaults_have_it() {
        let defaults = over(
            &Request::default(),
            serde_json::json!({
                "parallel": 7, "partition_by": "table", "max_events_per_second": 10,
                "debezium": {"topic.prefix": "shop", "decimal.handling.mode": "string"},
                "fdw": {"host": "a", "port": 1}, "tables": ["s.t"], "accept": ["hole"],
            }),
        );
        assert_eq!(over(&defaults, serde_json::json!({})), defaults);
        let said = serde_json::json!({
            "debezium": {"decimal.handling.mode": "double"}, "fdw": {"port": 2}, "tables": [],
            "max_events_per_second": null,
        });
        let request = over(&defaults, said);
        let DebeziumOptions { topic_prefix, decimal, .. } = request.debezium.options();
        assert_eq!((topic_prefix.as_str(), decimal), ("shop", crate::model::DecimalMode::Double));
        assert_eq!((request.fdw.host.as_deref(), request.fdw.port), (Some("a"), Some(2)));
        assert_eq!((request.parallel, request.event_hub.partition_by), (7, PartitionBy::Table));
        assert!(request.tables.is_empty() && request.event_hub.max_events_per_second.is_none());
        assert!(request.accepts(Accept::Hole) && !request.accepts(Accept::Written));
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let request = Request {
            sinks: vec![SinkTarget::DeltaTable],
            exclude: vec!["\"S\".t".parse().unwrap()],
            lost_at_lsn: Some(Lsn(1)),
            ..Request::default()
        };
        let stored = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&stored).unwrap(), request);
        // Fields of a later version have their defaults in what an earlier one stored.
        assert_eq!(serde_json::from_str::<Request>("{}").unwrap(), Request::default());
    }
}
