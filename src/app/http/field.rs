//! What a field of a body must be, said in the words of the OpenAPI document that describes it.

use serde_json::{Map, Number, Value};

use crate::model::nearest;

/// The value as the schema wants it: 1.0 is a whole number.
///
/// # Errors
/// What it must be; never the value, which may be a secret in the wrong place.
pub(super) fn checked(name: &str, value: Value, schema: &Value) -> Result<Value, String> {
    let alternatives = schema["oneOf"].as_array();
    if let Some(alternatives) = alternatives {
        let found = alternatives.iter().find_map(|it| checked(name, value.clone(), it).ok());
        // A reference is to what has a reader of its own.
        let known = alternatives.iter().all(|it| it["$ref"].is_null());
        return match found {
            Some(value) => Ok(value),
            None if known => {
                let texts: Vec<String> = alternatives.iter().map(must_be).collect();
                Err(format!("`{name}` must be {}", texts.join(" or ")))
            }
            None => Ok(value),
        };
    }
    let wrong = || format!("`{name}` must be {}", must_be(schema));
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(&value) { Ok(value) } else { Err(wrong()) };
    }
    match value {
        Value::Object(fields) if takes(schema, "object") && schema["properties"].is_object() => {
            let mut read = Map::new();
            for (key, value) in fields {
                let path = format!("{name}.{key}");
                let property = schema["properties"].get(&key);
                let property = property.ok_or_else(|| unknown(&path, schema))?;
                read.insert(key, checked(&path, value, property)?);
            }
            Ok(Value::Object(read))
        }
        Value::Array(values) if takes(schema, "array") => values
            .into_iter()
            .map(|value| checked(name, value, &schema["items"]).map_err(|_| wrong()))
            .collect(),
        Value::Number(number) if takes(schema, "integer") => {
            let least = schema["minimum"].as_u64().unwrap_or(0);
            let most = schema["maximum"].as_u64().unwrap_or(u64::MAX);
            let number = whole(&number).filter(|it| (least..=most).contains(it)).ok_or_else(wrong);
            number.map(Value::from)
        }
        Value::String(text) if takes(schema, "string") => {
            let characters = text.chars().count() as u64;
            let least = schema["minLength"].as_u64().unwrap_or(0);
            let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
            if (least..=most).contains(&characters) {
                Ok(Value::String(text))
            } else {
                Err(wrong())
            }
        }
        Value::Bool(_) if takes(schema, "boolean") => Ok(value),
        Value::Null if takes(schema, "null") => Ok(value),
        // What is described elsewhere is read by its own reader.
        value if schema["type"].is_null() => Ok(whole_numbers(value)),
        _ => Err(wrong()),
    }
}

/// The same with 1.0 written as 1: it is an integer in JSON's schemas.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            whole(&number).map_or(Value::Number(number), Value::from)
        }
        Value::Array(values) => values.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect()
        }
        other => other,
    }
}

fn whole(number: &Number) -> Option<u64> {
    let float = || number.as_f64().filter(|it| it.fract() == 0.0 && (0.0..9e15).contains(it));
    number.as_u64().or_else(|| float().map(|float| float as u64))
}

fn takes(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(only) => only == kind,
        Value::Array(several) => several.iter().any(|it| it == kind),
        _ => false,
    }
}

fn must_be(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return match words.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            words => words.join(""),
        };
    }
    let text = if takes(schema, "array") {
        let items = &schema["items"];
        if items["enum"].is_array() {
            format!("a list of {}", must_be(items))
        } else {
            "a list of texts".to_owned()
        }
    } else if takes(schema, "integer") {
        let least = schema["minimum"].as_u64().unwrap_or(0);
        let most = schema["maximum"].as_u64().map_or(String::new(), |most| format!(" to {most}"));
        format!("a whole number from {least}{most}")
    } else if takes(schema, "boolean") {
        "true or false".to_owned()
    } else if takes(schema, "object") {
        "an object".to_owned()
    } else if takes(schema, "string") {
        match (schema["minLength"].as_u64(), schema["maxLength"].as_u64()) {
            (_, Some(most)) => format!("a text of 1 to {most} characters"),
            (Some(_), None) => "a text that is not empty".to_owned(),
            (None, None) => "a text".to_owned(),
        }
    } else {
        return "null".to_owned();
    };
    if takes(schema, "null") { format!("{text}, or null") } else { text }
}

/// There is no such field.
pub(super) fn unknown(path: &str, schema: &Value) -> String {
    let fields = schema["properties"].as_object();
    let known: Vec<&str> =
        fields.into_iter().flat_map(|it| it.keys()).map(String::as_str).collect();
    let parent = known.iter().find_map(|_| path.split_once('.')).map_or(path, |(_, name)| name);
    let nearest = nearest(parent, &known);
    format!("there is no field `{path}`{nearest}; there are {}", known.join(", "))
}

/// Its own reader says what is wrong. What serde says of kinds of values is not repeated: it has
/// Rust's words.
pub(super) fn unusable(name: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let foreign = ["invalid ", "missing field", "unknown field", "data did not match", "duplicate"];
    if name == "recorded" {
        let part = ["missing field", "unknown field"].iter().any(|it| text.starts_with(it));
        let part = if part { format!(" ({text})") } else { String::new() };
        return format!("`recorded` must be what deltacompare record wrote, unchanged{part}");
    }
    if foreign.iter().any(|it| text.starts_with(it)) {
        return format!("`{name}` cannot be used: it is of another kind");
    }
    format!("`{name}` cannot be used: {text}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        let count = json!({"type": "integer", "minimum": 1, "maximum": 9});
        assert_eq!(checked("n", json!(2.0), &count), Ok(json!(2)));
        for wrong in [json!(0), json!(9.5), json!(10.0), json!(-1), json!(1e300), json!("2")] {
            let error = checked("n", wrong, &count).unwrap_err();
            assert_eq!(error, "`n` must be a whole number from 1 to 9");
        }
        let elsewhere = json!({"oneOf": [{"$ref": "#/x"}, {"type": "null"}]});
        let read = checked("n", json!({"a": [41.0, 1.5]}), &elsewhere);
        assert_eq!(read, Ok(json!({"a": [41, 1.5]})));
        assert_eq!(checked("n", Value::Null, &elsewhere), Ok(Value::Null));
    }

    #[test]
    fn what_a_value_is_not_is_said_without_it() {
        let text = json!({"type": ["string", "null"], "maxLength": 3, "minLength": 1});
        for wrong in [json!("hunter2"), json!(""), json!(7), json!(["hunter2"])] {
            let error = checked("database", wrong, &text).unwrap_err();
            assert_eq!(error, "`database` must be a text of 1 to 3 characters, or null");
        }
        let switch = json!({"type": "boolean"});
        assert_eq!(
            checked("cloud_events", json!(1), &switch).unwrap_err(),
            "`cloud_events` must be true or false"
        );
    }
}
