//! The properties of Debezium's PostgreSQL connector that decide how events look.
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html>

use std::collections::BTreeMap;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, Object, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::key_values::KeyValues;
use super::{
    BinaryMode, DecimalMode, HstoreMode, IntervalMode, TimePrecision, nearest, option_group,
};
use crate::error::{Error, Result};

/// What the properties come to. The defaults are Debezium's own, but for tombstones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DebeziumOptions {
    /// `topic.prefix`: what events name as their source.
    pub topic_prefix: String,
    /// `decimal.handling.mode`
    pub decimal: DecimalMode,
    /// `time.precision.mode`
    pub time_precision: TimePrecision,
    /// `binary.handling.mode`
    pub binary: BinaryMode,
    /// `interval.handling.mode`
    pub interval: IntervalMode,
    /// `hstore.handling.mode`
    pub hstore: HstoreMode,
    /// `tombstones.on.delete`
    pub tombstones: bool,
}

impl Default for DebeziumOptions {
    fn default() -> Self {
        Self {
            topic_prefix: "deltacompare".to_owned(),
            decimal: DecimalMode::default(),
            time_precision: TimePrecision::default(),
            binary: BinaryMode::default(),
            interval: IntervalMode::default(),
            hstore: HstoreMode::default(),
            tombstones: false,
        }
    }
}

/// A property that is known here.
struct Property {
    key: &'static str,
    meaning: &'static str,
    /// The values that there are, the default first; none for a property that takes any text.
    values: fn() -> Vec<String>,
    /// Reads a value and applies it. False if there is no such value.
    apply: fn(&mut DebeziumOptions, &str) -> bool,
}

/// In the order of the documentation.
const PROPERTIES: [Property; 7] = [
    Property {
        key: "topic.prefix",
        meaning: "what events name as their source, any text",
        values: Vec::new,
        apply: |options, value| {
            value.clone_into(&mut options.topic_prefix);
            !value.is_empty()
        },
    },
    Property {
        key: "decimal.handling.mode",
        meaning: "numeric and money",
        values: words::<DecimalMode>,
        apply: |options, value| set(&mut options.decimal, value),
    },
    Property {
        key: "time.precision.mode",
        meaning: "date, time and timestamp",
        values: words::<TimePrecision>,
        apply: |options, value| set(&mut options.time_precision, value),
    },
    Property {
        key: "binary.handling.mode",
        meaning: "bytea",
        values: words::<BinaryMode>,
        apply: |options, value| set(&mut options.binary, value),
    },
    Property {
        key: "interval.handling.mode",
        meaning: "interval",
        values: words::<IntervalMode>,
        apply: |options, value| set(&mut options.interval, value),
    },
    Property {
        key: "hstore.handling.mode",
        meaning: "hstore",
        values: words::<HstoreMode>,
        apply: |options, value| set(&mut options.hstore, value),
    },
    Property {
        key: "tombstones.on.delete",
        meaning: "after each delete a message with its key and no event, for compacted topics; \
                  Debezium's own default is true. A file needs --ndjson-keys for it; the delta \
                  table has the key in a column and keeps no tombstones; an event hub takes none",
        values: || vec!["false".to_owned(), "true".to_owned()],
        apply: |options, value| {
            options.tombstones = value == "true";
            ["false", "true"].contains(&value)
        },
    },
];

fn words<T: ValueEnum>() -> Vec<String> {
    let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}

fn set<T: ValueEnum>(field: &mut T, word: &str) -> bool {
    let value = T::from_str(word, false);
    value.map(|value| *field = value).is_ok()
}

/// The properties that were given, each known and with a value that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct DebeziumProperties(BTreeMap<String, String>);

const OPTION: KeyValues<DebeziumProperties> =
    KeyValues { id: "debezium", env: "DELTACOMPARE_DEBEZIUM", set: DebeziumProperties::set };

impl DebeziumProperties {
    /// What they come to, over the defaults.
    pub fn options(&self) -> DebeziumOptions {
        let mut options = DebeziumOptions::default();
        for (key, value) in &self.0 {
            for property in PROPERTIES.iter().filter(|property| property.key == key) {
                (property.apply)(&mut options, value);
            }
        }
        options
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let Some(property) = PROPERTIES.iter().find(|property| property.key == key) else {
            let keys = PROPERTIES.map(|property| property.key);
            let nearest = nearest(key, &keys);
            return Err(Error::refused(format!(
                "Debezium's property {key:?} is not known here{nearest}; known are {}",
                keys.join(", ")
            )));
        };
        if !(property.apply)(&mut DebeziumOptions::default(), value) {
            let values = (property.values)();
            let takes = if values.is_empty() { "some text".to_owned() } else { values.join(", ") };
            return Err(Error::refused(format!("{key} cannot be {value:?}; it takes {takes}")));
        }
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

impl TryFrom<BTreeMap<String, String>> for DebeziumProperties {
    type Error = Error;

    fn try_from(given: BTreeMap<String, String>) -> Result<Self> {
        let mut properties = Self::default();
        given.iter().try_for_each(|(key, value)| properties.set(key, value))?;
        Ok(properties)
    }
}

impl From<DebeziumProperties> for BTreeMap<String, String> {
    fn from(properties: DebeziumProperties) -> Self {
        properties.0
    }
}

impl Args for DebeziumProperties {
    fn augment_args(command: Command) -> Command {
        let mut long = "A property of Debezium's PostgreSQL connector, by its own name; may be \
                        repeated. The first value of each is the default:"
            .to_owned();
        for Property { key, meaning, values, .. } in &PROPERTIES {
            let values = values();
            let values = if values.is_empty() {
                format!(", {} unless it is set", DebeziumOptions::default().topic_prefix)
            } else {
                format!(": {}", values.join(", "))
            };
            long.push_str(&format!("\n- {key} ({meaning}){values}"));
        }
        let argument = OPTION.argument("A property of Debezium's connector; may be repeated", long);
        command.arg(argument.help_heading(option_group::FORMAT))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DebeziumProperties {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        OPTION.read(matches)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = OPTION.read(matches)?;
        Ok(())
    }
}

impl PartialSchema for DebeziumProperties {
    fn schema() -> RefOr<Schema> {
        let mut properties = ObjectBuilder::new()
            .description(Some("Properties of Debezium's PostgreSQL connector, by their own names."))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        for Property { key, meaning, values, .. } in &PROPERTIES {
            let values = values().into_iter().map(Value::from).collect::<Vec<_>>();
            let text = ObjectBuilder::new().schema_type(Type::String).description(Some(*meaning));
            let schema: Object = if values.is_empty() {
                text.min_length(Some(1)).build()
            } else {
                text.enum_values(Some(values)).build()
            };
            properties = properties.property(*key, schema);
        }
        properties.build().into()
    }
}

impl ToSchema for DebeziumProperties {}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &[&str]) -> Result<DebeziumProperties, clap::Error> {
        let words = text.iter().flat_map(|text| ["--debezium", text]);
        let command = DebeziumProperties::augment_args(Command::new("p").no_binary_name(true));
        command.try_get_matches_from(words).and_then(|it| DebeziumProperties::from_arg_matches(&it))
    }

    #[test]
    fn each_property_is_read_and_applied_and_its_first_value_is_the_default() {
        let default = DebeziumOptions::default();
        for Property { key, values, apply, .. } in &PROPERTIES {
            let values = match values() {
                none if none.is_empty() => vec![default.topic_prefix.clone(), "shop".to_owned()],
                values => values,
            };
            assert!(values.len() > 1, "{key}");
            for (place, value) in values.iter().enumerate() {
                let properties = given(&[&format!("{key}={value}")]).unwrap();
                assert_eq!(properties.options() == default, place == 0, "{key}={value}");
                let mut applied = default.clone();
                assert!(apply(&mut applied, value));
                assert_eq!(properties.options(), applied);
            }
        }
    }

    #[test]
    fn the_command_line_and_json_say_the_same() {
        let properties =
            given(&["decimal.handling.mode=string,topic.prefix=shop", "hstore.handling.mode=map"]);
        let json = serde_json::json!({
            "decimal.handling.mode": "string", "topic.prefix": "shop", "hstore.handling.mode": "map",
        });
        let read: DebeziumProperties = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(properties.unwrap(), read);
        assert_eq!(serde_json::to_value(read).unwrap(), json, "only what was given");
    }

    #[test]
    fn unknown_keys_and_values_are_refused_with_those_that_there_are() {
        for (text, says) in [
            ("decimal.handling=string", &["\"decimal.handling\"", "decimal.handling.mode"][..]),
            ("snapshot.mode=never", &["snapshot.mode", "topic.prefix", "tombstones.on.delete"]),
            ("binary.handling.mode=hexx", &["\"hexx\"", "bytes, base64, base64-url-safe, hex"]),
            ("topic.prefix=", &["topic.prefix", "some text"]),
            ("tombstones.on.delete=yes", &["false, true"]),
            ("topic.prefix", &["key=value"]),
        ] {
            let error = given(&[text]).unwrap_err().to_string();
            for part in says {
                assert!(error.contains(part), "{text}: {error}");
            }
            assert!(error.contains("--debezium"), "{error}");
        }
    }
}
