//! The body of a request to the app, made of what was said on the command line and in the
//! environment.

use clap::ArgMatches;
use clap::parser::ValueSource;
use deltacompare::error::{Error, Result};
use deltacompare::model::{Request, StartOptions};
use serde_json::{Map, Value};

/// Every option that was given, by its name in the API, which is the name of its argument. What was
/// not given is left out, so that the app's own settings hold.
///
/// # Errors
/// An option cannot be sent.
pub(super) fn of(request: &Request, start: &StartOptions, given: &ArgMatches) -> Result<Value> {
    let mut body = Map::new();
    for said in [serde_json::to_value(request), serde_json::to_value(start)] {
        let said = said.map_err(|error| Error::refused(error.to_string()))?;
        let Value::Object(fields) = said else { continue };
        body.extend(fields.into_iter().filter(|(name, _)| is_given(given, name)));
    }
    Ok(Value::Object(body))
}

fn is_given(given: &ArgMatches, name: &str) -> bool {
    matches!(given.value_source(name), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};
    use serde_json::json;

    use super::*;
    use crate::cli::client::{AppCommand, StartArguments};
    use crate::cli::command::{Arguments, Command};

    fn body(words: &[&str]) -> Value {
        let words = ["deltacompare", "start", "--app", "https://a.example"].iter().chain(words);
        let matches = Arguments::command().get_matches_from(words);
        let command = Arguments::from_arg_matches(&matches).unwrap().command;
        let Command::App(AppCommand::Start(start)) = command else { panic!("not start") };
        let StartArguments { request, start, .. } = *start;
        of(&request, &start, matches.subcommand().unwrap().1).unwrap()
    }

    #[test]
    fn only_what_was_said_is_sent() {
        let said = body(&["--sink", "delta-table"]);
        assert_eq!(said, json!({"sinks": ["delta-table"]}));
    }

    #[test]
    fn lists_numbers_switches_and_words_are_what_the_api_wants() {
        let said = body(&[
            "--sink",
            "delta-table",
            "--table",
            "public.a",
            "--table",
            "public.\"B\"",
            "--parallel",
            "7",
            "--fdw",
            "port=5433",
            "--accept",
            "written",
            "--accept",
            "hole",
            "--strategy",
            "content",
            "--lost-at-lsn",
            "0/3000148",
            "--max-bytes-per-second",
            "1000000",
            "--watch",
            "--json",
            "--debezium",
            "topic.prefix=12",
            "--database",
            "shop",
        ]);
        assert_eq!(
            said,
            json!({
                "sinks": ["delta-table"], "tables": ["public.a", "public.\"B\""], "parallel": 7,
                "fdw": {"port": 5433}, "accept": ["written", "hole"], "strategy": "content",
                "lost_at_lsn": "0/3000148", "max_bytes_per_second": 1000000,
                "debezium": {"topic.prefix": "12"}, "database": "shop",
            })
        );
    }
}
