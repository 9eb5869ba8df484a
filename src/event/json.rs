//! The few pieces of JSON that events are made of.

use base64::Engine;
use base64::engine::GeneralPurpose;

use super::value::Malformed;

/// 0 for bytes that stand for themselves in a JSON string, otherwise the letter of their escape
/// (`u` for `\u00xx`). <https://www.rfc-editor.org/rfc/rfc8259#section-7>
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends a string with its quotes. Text beyond ASCII is written as itself, in UTF-8.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    escaped(text.as_bytes(), out);
    out.push(b'"');
}

/// Appends the inside of a string.
pub(super) fn escaped(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = first_escape(text) {
        let byte = text[at];
        out.extend_from_slice(&text[..at]);
        match ESCAPES[byte as usize] {
            b'u' => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[(byte >> 4) as usize]);
                out.push(HEX[(byte & 15) as usize]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

/// Where the first byte is that cannot stand for itself. Eight bytes a step: a byte below 0x20,
/// a quote or a backslash leaves its high bit set in `found`; what a borrow sets too much only
/// costs the exact look that follows.
fn first_escape(text: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    for chunk in text.as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (LOW * b'"' as u64);
        let backslash = word ^ (LOW * b'\\' as u64);
        let found = (word.wrapping_sub(LOW * 0x20) & !word)
            | (quote.wrapping_sub(LOW) & !quote)
            | (backslash.wrapping_sub(LOW) & !backslash);
        if found & HIGH != 0
            && let Some(inside) = exact_escape(chunk)
        {
            return Some(at + inside);
        }
        at += 8;
    }
    exact_escape(&text[at..]).map(|inside| at + inside)
}

fn exact_escape(text: &[u8]) -> Option<usize> {
    text.iter().position(|&byte| ESCAPES[byte as usize] != 0)
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes as a base64 string.
pub(super) fn base64(bytes: &[u8], engine: &GeneralPurpose, out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exact: both engines pad.
    let written = engine.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// Appends an integer.
pub(super) fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an integer's text as a number.
pub(super) fn integer_text(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let plain = match digits {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !plain {
        return Err(Malformed("is not an integer"));
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Appends a float's text as a number; NaN and the infinities as strings. Yields whether it is a
/// number without point and exponent, which readers that tell integers from floats (Python's) take
/// for an integer.
pub(super) fn float_text(text: &str, out: &mut Vec<u8>) -> Result<bool, Malformed> {
    if matches!(text, "NaN" | "Infinity" | "-Infinity") {
        string(text, out);
        return Ok(false);
    }
    let malformed = Malformed("is not a floating-point number");
    let bytes = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let (whole, rest) = digits(bytes);
    if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
        return Err(malformed);
    }
    let rest = match rest {
        [b'.', rest @ ..] => match digits(rest) {
            ([], _) => return Err(malformed),
            (_, rest) => rest,
        },
        _ => rest,
    };
    match rest {
        [] => {}
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..]
            if matches!(digits(exponent), ([_, ..], [])) => {}
        _ => return Err(malformed),
    }
    out.extend_from_slice(text.as_bytes());
    Ok(whole.len() == bytes.len())
}

/// The digits that a text starts with, and what follows them.
pub(super) fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Appends a double that was computed here.
pub(super) fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value.is_infinite() {
        let text = if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" };
        out.extend_from_slice(text.as_bytes());
    } else {
        out.extend_from_slice(serde_json::Value::from(value).to_string().as_bytes());
    }
}

/// Appends a UUID as a string.
pub(super) fn uuid(id: &uuid::Uuid, out: &mut Vec<u8>) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    out.push(b'"');
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_ascii_character_at_every_place() {
        for place in 0..20 {
            for byte in 0..128u8 {
                let text = format!("{}{}tail of text", "x".repeat(place), byte as char);
                let json = written(|out| string(&text, out));
                assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
                assert_eq!(json, serde_json::to_string(&text).unwrap());
            }
        }
    }

    #[test]
    fn every_plane_of_unicode_and_a_megabyte() {
        let planes: String = (0..=16u32)
            .flat_map(|plane| {
                [0x0000, 0x0020, 0x2028, 0xabcd, 0xfffd, 0xffff].map(|low| plane << 16 | low)
            })
            .filter_map(char::from_u32)
            .collect();
        for text in [planes.clone(), planes.repeat(20_000)] {
            let json = written(|out| string(&text, out));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            assert!(!json.contains(['\n', '\r']));
        }
    }

    #[test]
    fn floats_stay_what_they_are() {
        for (text, integer) in [
            ("0", true),
            ("-0", true),
            ("12", true),
            ("1.5", false),
            ("1e+20", false),
            ("1e-07", false),
            ("5e-324", false),
            ("1.7976931348623157e+308", false),
        ] {
            let json = written(|out| assert_eq!(float_text(text, out), Ok(integer)));
            assert_eq!(json, text);
        }
        for text in ["NaN", "Infinity", "-Infinity"] {
            let json = written(|out| assert_eq!(float_text(text, out), Ok(false)));
            assert_eq!(json, format!("\"{text}\""));
        }
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "0x1", "1 ", "nan", "1,5"] {
            assert!(float_text(text, &mut Vec::new()).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_are_digits() {
        for text in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(written(|out| integer_text(text, out).unwrap()), text);
        }
        for text in ["", "-", "01", "1.0", "1e3", "+1", " 1"] {
            assert!(integer_text(text, &mut Vec::new()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn strings_come_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let json = written(|out| string(&text, out));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn bytes_come_back(bytes: Vec<u8>) {
            let engine = &base64::engine::general_purpose::STANDARD;
            let json = written(|out| base64(&bytes, engine, out));
            prop_assert_eq!(engine.decode(json.trim_matches('"')).unwrap(), bytes);
        }
    }
}
