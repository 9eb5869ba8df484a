//! What the modules below say in words of the command line, in words of the API: a field by its name,
//! what only settings decide by the setting's name.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::Json;
use clap::{Arg, ArgAction, Args, Command};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::Settings;
use crate::error::{Error, Result};
use crate::model::{Request, StartOptions};

/// An option as the API has it.
enum Word {
    Field(Box<Arg>),
    Setting(String),
}

static WORDS: LazyLock<HashMap<String, Word>> = LazyLock::new(|| {
    let long = |argument: &Arg| argument.get_long().unwrap_or_default().to_owned();
    let fields = StartOptions::augment_args(Request::augment_args(Command::new("fields")));
    let settings = Settings::augment_args(Command::new("settings"));
    let settings = settings.get_arguments().filter_map(|argument| {
        let setting = argument.get_env()?.to_string_lossy().into_owned();
        Some((long(argument), Word::Setting(setting)))
    });
    let fields = fields
        .get_arguments()
        .map(|argument| (long(argument), Word::Field(Box::new(argument.clone()))));
    fields.chain(settings).collect()
});

/// The sentence with each option by the name that it has here.
pub(super) fn of_api(sentence: &str) -> String {
    let mut said = String::new();
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once("--") {
        said.push_str(before);
        let name_ends = |c: char| !(c.is_ascii_lowercase() || c == '-');
        let name = &after[..after.find(name_ends).unwrap_or(after.len())];
        let name = name.trim_end_matches('-');
        rest = &after[name.len()..];
        match WORDS.get(name) {
            Some(Word::Setting(setting)) => said.push_str(setting),
            Some(Word::Field(field)) => {
                let value_ends = |c: char| !(c.is_ascii_alphanumeric() || "-_./=".contains(c));
                let value = rest.strip_prefix(' ').unwrap_or_default();
                let value = value.split(value_ends).next().unwrap_or_default();
                match assigned(field, value.trim_end_matches('.')) {
                    Some((assigned, length)) => {
                        said.push_str(&assigned);
                        rest = &rest[1 + length..];
                    }
                    None => said.push_str(&format!("`{}`", field.get_id())),
                }
            }
            None => said.push_str(&format!("--{name}")),
        }
    }
    said + rest
}

/// A field with one of its values as JSON has it, and how long the value was in the sentence.
fn assigned(field: &Arg, value: &str) -> Option<(String, usize)> {
    let id = field.get_id();
    if let Some((key, of_key)) = value.split_once('=').filter(|_| is_of_keys(field)) {
        return Some((format!("\"{id}\": {}", json!({ key: of_key })), value.len()));
    }
    let known = field.get_possible_values();
    known.iter().any(|known| known.get_name() == value).then_some(())?;
    let json = match field.get_action() {
        ArgAction::Append => json!([value]),
        _ => json!(value),
    };
    Some((format!("\"{id}\": {json}"), value.len()))
}

fn is_of_keys(field: &Arg) -> bool {
    field.get_value_names().is_some_and(|names| names.iter().any(|name| name == "KEY=VALUE"))
}

/// The fields of answers that hold sentences.
const SENTENCES: [&str; 3] = ["error", "warnings", "why"];

/// An answer, its sentences in words of the API.
///
/// # Errors
/// It cannot be written as JSON.
pub(super) fn answer(document: &impl Serialize) -> Result<Json<Value>> {
    let mut document = serde_json::to_value(document)
        .map_err(|error| Error::recovery(format!("the status cannot be written: {error}")))?;
    translate(&mut document);
    Ok(Json(document))
}

fn translate(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(translate),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if SENTENCES.contains(&name.as_str()) => {
                        *text = of_api(text);
                    }
                    Value::Array(texts) if SENTENCES.contains(&name.as_str()) => {
                        for text in texts {
                            if let Value::String(text) = text {
                                *text = of_api(text);
                            }
                        }
                    }
                    other => translate(other),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_fields_and_settings() {
        for (sentence, here) in [
            ("set --lost-at-lsn and --new-slot-lsn.", "set `lost_at_lsn` and `new_slot_lsn`."),
            ("with --accept hole the rest", "with \"accept\": [\"hole\"] the rest"),
            ("or use --strategy content.", "or use \"strategy\": \"content\"."),
            ("leave it out with --exclude it", "leave it out with `exclude` it"),
            ("--table a.b, --sink", "`tables` a.b, `sinks`"),
            ("set --fdw sslmode=require", "set \"fdw\": {\"sslmode\":\"require\"}"),
            ("say host in --fdw", "say host in `fdw`"),
            ("set --vault or --base-secret", "set DELTACOMPARE_VAULT or DELTACOMPARE_BASE_SECRET"),
            ("--event-hub-endpoint is", "DELTACOMPARE_EVENT_HUB_ENDPOINT is"),
            ("deltacompare cleanup --yes", "deltacompare cleanup --yes"),
            ("go on with --resume (app: retry)", "go on with --resume (app: retry)"),
            ("a -- b, --", "a -- b, --"),
        ] {
            assert_eq!(of_api(sentence), here);
        }
    }

    #[test]
    fn sentences_of_answers_are_translated_wherever_they_are_and_nothing_else_is() {
        let document = json!({
            "gap": {"why": "no --lost-at-lsn"}, "request": {"note": "--table"},
            "tables": [{"warnings": ["--parallel 3"], "error": null, "table": "--table"}],
        });
        let Json(answer) = answer(&document).unwrap();
        assert_eq!(
            answer,
            json!({
                "gap": {"why": "no `lost_at_lsn`"}, "request": {"note": "--table"},
                "tables": [{"warnings": ["`parallel` 3"], "error": null, "table": "--table"}],
            })
        );
    }
}
