//! Arrays: `{1,NULL,"a b"}`, perhaps with bounds in front (`[0:1]={1,2}`).
//! <https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>

use super::super::value::{Fidelity, Malformed, lost};

const MALFORMED: Malformed = Malformed("is not an array");

/// Appends a JSON array of the elements, each as `write_element` writes it; `nullable` is false where
/// a null among them makes the whole array null. Bounds are not told. Of an array of several dimensions the
/// connector writes nulls (or, of strings, the addresses of Java objects): here it is nulls. An
/// element that cannot be written makes the whole array null.
pub(super) fn write(
    text: &str,
    nullable: bool,
    write_element: impl Fn(&str, &mut Vec<u8>) -> Result<Fidelity, Malformed>,
    out: &mut Vec<u8>,
) -> Result<Fidelity, Malformed> {
    let start = out.len();
    let mut fidelity = Fidelity::Exact;
    let mut rest = match text.starts_with('[') {
        true => text.split_once('=').ok_or(MALFORMED)?.1,
        false => text,
    };
    rest = rest.strip_prefix('{').ok_or(MALFORMED)?;
    out.push(b'[');
    if rest == "}" {
        out.push(b']');
        return Ok(fidelity);
    }
    let mut unescaped = String::new();
    loop {
        let (element, after) = element(rest, &mut unescaped)?;
        match element {
            Element::Null if !nullable => return Ok(lost(out, start)),
            Element::Null => out.extend_from_slice(b"null"),
            Element::Nested => {
                out.extend_from_slice(b"null");
                fidelity = Fidelity::Lost;
            }
            Element::Value(text) => {
                if write_element(text, out)? == Fidelity::Lost {
                    return Ok(lost(out, start));
                }
            }
        }
        match after.as_bytes() {
            b"}" => break,
            [b',', ..] => rest = &after[1..],
            _ => return Err(MALFORMED),
        }
        out.push(b',');
    }
    out.push(b']');
    Ok(fidelity)
}

enum Element<'a> {
    Null,
    Nested,
    Value(&'a str),
}

/// The element that a text starts with, and what follows it.
fn element<'t: 'e, 'e>(
    text: &'t str,
    unescaped: &'e mut String,
) -> Result<(Element<'e>, &'t str), Malformed> {
    match text.as_bytes().first() {
        Some(b'{') => Ok((Element::Nested, after_nested(text)?)),
        Some(b'"') => {
            unescaped.clear();
            let inside = &text[1..];
            let mut chars = inside.char_indices();
            while let Some((at, char)) = chars.next() {
                match char {
                    '"' => return Ok((Element::Value(unescaped), &inside[at + 1..])),
                    '\\' => unescaped.push(chars.next().ok_or(MALFORMED)?.1),
                    other => unescaped.push(other),
                }
            }
            Err(MALFORMED)
        }
        _ => {
            let end = text.find([',', '}']).filter(|&end| end > 0).ok_or(MALFORMED)?;
            let element = match &text[..end] {
                "NULL" => Element::Null,
                plain => Element::Value(plain),
            };
            Ok((element, &text[end..]))
        }
    }
}

/// What follows the inner array that a text starts with.
fn after_nested(text: &str) -> Result<&str, Malformed> {
    let (mut depth, mut quoted) = (0, false);
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Ok(&text[at + 1..]);
                }
            }
            _ => {}
        }
    }
    Err(MALFORMED)
}
