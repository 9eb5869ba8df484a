//! The body of a request, made of what was said on the command line and in the environment.

use std::any::TypeId;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use deltacompare::error::{Error, Result};
use deltacompare::model::Record;
use serde_json::{Map, Value};

/// What concerns this program alone.
const NOT_ASKED: [&str; 5] = ["app", "json", "watch", "idempotency_key", "help"];

/// Every option that was given, by its name in the API, which is the name of its argument. What was
/// not given is left out, so that the app's own settings hold.
///
/// # Errors
/// Refused if a file that an option names cannot be used.
pub(super) fn of(program: &Command, matches: &ArgMatches) -> Result<Value> {
    let mut body = Map::new();
    let Some((name, given)) = matches.subcommand() else { return Ok(Value::Object(body)) };
    let command = program.find_subcommand(name);
    for argument in command.into_iter().flat_map(|command| command.get_arguments()) {
        let id = argument.get_id().as_str();
        if NOT_ASKED.contains(&id) || !is_given(given, id) {
            continue;
        }
        let value = if id == "recorded" {
            let file = given.get_one::<PathBuf>(id).map(|file| Record::read(file));
            let record = file.transpose()?;
            serde_json::to_value(record).map_err(|error| Error::refused(error.to_string()))?
        } else {
            value(argument, given)
        };
        body.insert(id.to_owned(), value);
    }
    Ok(Value::Object(body))
}

fn is_given(given: &ArgMatches, id: &str) -> bool {
    matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

fn value(argument: &Arg, given: &ArgMatches) -> Value {
    let id = argument.get_id().as_str();
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return given.get_flag(id).into();
    }
    let mut texts =
        given.get_raw(id).into_iter().flatten().map(|text| text.to_string_lossy().into_owned());
    if matches!(argument.get_action(), ArgAction::Append) {
        return texts.collect::<Vec<_>>().into();
    }
    let text = texts.next().unwrap_or_default();
    let of = argument.get_value_parser().type_id();
    let numbers = [
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<NonZeroU64>(),
    ];
    match text.parse::<u64>() {
        Ok(number) if numbers.iter().any(|number| of == *number) => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use serde_json::json;

    use super::*;
    use crate::cli::command::Arguments;

    fn body(words: &[&str]) -> Value {
        let words = ["deltacompare", "start", "--app", "https://a.example"].iter().chain(words);
        let program = Arguments::command();
        of(&program, &program.clone().get_matches_from(words)).unwrap()
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
            "--fdw-port",
            "5433",
            "--accept-written",
            "--strategy",
            "content",
            "--lost-at-lsn",
            "0/3000148",
            "--max-bytes-per-second",
            "1000000",
            "--watch",
            "--json",
            "--topic-prefix",
            "12",
        ]);
        assert_eq!(
            said,
            json!({
                "sinks": ["delta-table"], "tables": ["public.a", "public.\"B\""], "parallel": 7,
                "fdw_port": 5433, "accept_written": true, "strategy": "content",
                "lost_at_lsn": "0/3000148", "max_bytes_per_second": 1000000, "topic_prefix": "12",
            })
        );
    }
}
