//! `hstore`: `"key"=>"value", "key"=>NULL`.

use super::super::json;
use super::super::value::Malformed;
use crate::model::HstoreMode;

const MALFORMED: Malformed = Malformed("is not an hstore");

/// Appends a JSON object, or a string that contains it. Its fields stand in PostgreSQL's order; the
/// connector's come out of a Java `HashMap`, in no order a consumer could rely on.
pub(super) fn write(text: &str, mode: HstoreMode, out: &mut Vec<u8>) -> Result<(), Malformed> {
    match mode {
        HstoreMode::Map => object(text, out),
        HstoreMode::Json => {
            let mut inside = Vec::with_capacity(text.len() + 2);
            object(text, &mut inside)?;
            out.push(b'"');
            json::escaped(&inside, out);
            out.push(b'"');
            Ok(())
        }
    }
}

fn object(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.push(b'{');
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        json::string(&key, out);
        out.push(b':');
        rest = after.strip_prefix("=>").ok_or(MALFORMED)?;
        rest = match rest.strip_prefix("NULL") {
            Some(after) => {
                out.extend_from_slice(b"null");
                after
            }
            None => {
                let (value, after) = quoted(rest)?;
                json::string(&value, out);
                after
            }
        };
        if !rest.is_empty() {
            rest = rest.strip_prefix(", ").filter(|rest| !rest.is_empty()).ok_or(MALFORMED)?;
            out.push(b',');
        }
    }
    out.push(b'}');
    Ok(())
}

/// The quoted string that a text starts with, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), Malformed> {
    let inside = text.strip_prefix('"').ok_or(MALFORMED)?;
    let mut string = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((string, &inside[at + 1..])),
            '\\' => string.push(chars.next().ok_or(MALFORMED)?.1),
            other => string.push(other),
        }
    }
    Err(MALFORMED)
}
