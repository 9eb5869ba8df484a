//! Bytes and bits.

use data_encoding::HEXLOWER_PERMISSIVE;

use super::super::value::Malformed;

/// The bytes of a `bytea` in hex format.
pub(super) fn bytea(text: &str) -> Result<Vec<u8>, Malformed> {
    text.strip_prefix("\\x").and_then(hex).ok_or(Malformed("is not bytea in hex format"))
}

/// The bytes that hexadecimal digits of either case stand for.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

pub(super) fn flag(text: &str) -> Result<&'static [u8], Malformed> {
    match text {
        "0" => Ok(b"false"),
        "1" => Ok(b"true"),
        _ => Err(Malformed("is not one bit")),
    }
}

/// A bit string's bytes, the last bit first, without the zero bytes at the end
/// (`PostgresValueConverter.convertBits`).
pub(super) fn bits(text: &str) -> Result<Vec<u8>, Malformed> {
    let mut bytes = vec![0; text.len().div_ceil(8)];
    for (at, digit) in text.bytes().rev().enumerate() {
        match digit {
            b'0' => {}
            b'1' => bytes[at / 8] |= 1 << (at % 8),
            _ => return Err(Malformed("is not a bit string")),
        }
    }
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    Ok(bytes)
}
