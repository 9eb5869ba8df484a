//! `numeric` and `money`.

use base64::engine::general_purpose::STANDARD;
use num_bigint::BigInt;

use super::super::json::{self, digits};
use super::super::value::{Fidelity, Malformed, lost};

/// How `money` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MoneyStyle {
    Unscaled,
    Double,
    Text,
}

/// A decimal number in plain notation.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

const MALFORMED: Malformed = Malformed("is not a decimal number");

impl<'a> Decimal<'a> {
    /// `None` for NaN and the infinities.
    fn parse(text: &'a str) -> Result<Option<Self>, Malformed> {
        if matches!(text, "NaN" | "Infinity" | "-Infinity") {
            return Ok(None);
        }
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, rest) = digits(unsigned.as_bytes());
        let fraction = match rest {
            [] => rest,
            [b'.', fraction @ ..] if digits(fraction).1.is_empty() => fraction,
            _ => return Err(MALFORMED),
        };
        if whole.is_empty() {
            return Err(MALFORMED);
        }
        Ok(Some(Self { negative: unsigned.len() != text.len(), whole, fraction }))
    }

    /// The fraction without the zeros at its end.
    fn significant(&self) -> &'a [u8] {
        let end = self.fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |at| at + 1);
        &self.fraction[..end]
    }

    /// Appends the base64 of number · 10^scale as a big-endian two's complement integer of as few
    /// bytes as it takes (`BigInteger.toByteArray`).
    fn unscaled(&self, scale: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let fraction = match self.fraction.len() <= scale {
            true => self.fraction,
            false => self.significant(),
        };
        let Some(zeros) = scale.checked_sub(fraction.len()) else {
            return Err(Malformed("has more decimal places than its column"));
        };
        let all = self.whole.iter().chain(fraction);
        // 38 digits fit an i128.
        if self.whole.len() + scale <= 38 {
            let number = all
                .chain(std::iter::repeat_n(&b'0', zeros))
                .fold(0i128, |number, digit| number * 10 + i128::from(digit - b'0'));
            let number = if self.negative { -number } else { number };
            let bytes = number.to_be_bytes();
            // Leading bytes that only repeat the sign go, as long as the next has it too.
            let sign = if number < 0 { 0xff } else { 0 };
            let used = bytes
                .windows(2)
                .position(|pair| pair[0] != sign || (pair[1] ^ sign) & 0x80 != 0)
                .unwrap_or(bytes.len() - 1);
            json::base64(&bytes[used..], &STANDARD, out);
        } else {
            let all: Vec<u8> = all.copied().chain(std::iter::repeat_n(b'0', zeros)).collect();
            let number = BigInt::parse_bytes(&all, 10).ok_or(MALFORMED)?;
            let number = if self.negative { -number } else { number };
            json::base64(&number.to_signed_bytes_be(), &STANDARD, out);
        }
        Ok(())
    }
}

/// `decimal.handling.mode=precise`, declared scale. NaN has no such form: the connector writes null.
pub(super) fn scaled(text: &str, scale: u16, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let start = out.len();
    match Decimal::parse(text)? {
        Some(number) => number.unscaled(usize::from(scale), out)?,
        None => return Ok(lost(out, start)),
    }
    Ok(Fidelity::Exact)
}

/// `decimal.handling.mode=precise`, no declared scale: `VariableScaleDecimal`, stripped of zeros at
/// the end of the fraction.
pub(super) fn variable(text: &str, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let start = out.len();
    let Some(mut number) = Decimal::parse(text)? else { return Ok(lost(out, start)) };
    number.fraction = number.significant();
    let scale = number.fraction.len();
    out.extend_from_slice(b"{\"scale\":");
    json::integer(scale as i64, out);
    out.extend_from_slice(b",\"value\":");
    number.unscaled(scale, out)?;
    out.push(b'}');
    Ok(Fidelity::Exact)
}

/// `decimal.handling.mode=double`.
pub(super) fn double(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    Decimal::parse(text)?;
    json::float(text.parse().map_err(|_| MALFORMED)?, out);
    Ok(())
}

/// `decimal.handling.mode=string`. The special values are written by their names in
/// `SpecialValueDecimal`'s enum.
pub(super) fn text(text: &str, scale: u16, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let Some(number) = Decimal::parse(text)? else {
        let name = match text {
            "NaN" => "\"NAN\"",
            "Infinity" => "\"POSITIVE_INFINITY\"",
            _ => "\"NEGATIVE_INFINITY\"",
        };
        out.extend_from_slice(name.as_bytes());
        return Ok(());
    };
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    let missing = usize::from(scale).saturating_sub(number.fraction.len());
    if missing > 0 && number.fraction.is_empty() {
        out.push(b'.');
    }
    out.extend(std::iter::repeat_n(b'0', missing));
    out.push(b'"');
    Ok(())
}

/// `money` as the connector reads it (`PostgresMoney`): a sign or parentheses, one character of
/// currency, thousands separated by commas; then always two decimal places.
pub(super) fn money(text: &str, style: MoneyStyle, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let malformed = Malformed("is not money as lc_monetary C or en_US prints it");
    let (negative, amount) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'(', .., b')'] => (true, &text[1..text.len() - 1]),
        _ => (false, text),
    };
    let amount = amount.strip_prefix(|first: char| !first.is_ascii_digit()).unwrap_or(amount);
    let mut plain = String::with_capacity(text.len());
    if negative {
        plain.push('-');
    }
    plain.extend(amount.chars().filter(|&digit| digit != ','));
    match style {
        MoneyStyle::Unscaled => match Decimal::parse(&plain) {
            Ok(Some(number)) => number.unscaled(2, out),
            _ => Err(malformed),
        },
        MoneyStyle::Double => double(&plain, out).map_err(|_| malformed),
        MoneyStyle::Text => self::text(&plain, 0, out).map_err(|_| malformed),
    }
}

/// Appends a float's text, with the point that Jackson never leaves out.
pub(super) fn float(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if json::float_text(text, out)? {
        out.extend_from_slice(b".0");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use proptest::prelude::*;

    use super::*;

    fn number(base64: &str) -> BigInt {
        BigInt::from_signed_bytes_be(&STANDARD.decode(base64).unwrap())
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn malformed_numbers_are_refused() {
        for text in ["", "-", ".", "1.2.3", "1e5", "x", "1,5", "--1", "+1", "nan", "١"] {
            assert!(scaled(text, 2, &mut Vec::new()).is_err(), "{text}");
            assert!(variable(text, &mut Vec::new()).is_err(), "{text}");
            assert!(double(text, &mut Vec::new()).is_err(), "{text}");
            assert!(super::text(text, 2, &mut Vec::new()).is_err(), "{text}");
        }
        assert!(scaled("1.234", 2, &mut Vec::new()).is_err());
        assert!(money("1.234.567,89 €", MoneyStyle::Unscaled, &mut Vec::new()).is_err());
    }

    #[test]
    fn zeros_beyond_the_scale_are_dropped() {
        let json = written(|out| assert_eq!(scaled("1.2300", 2, out), Ok(Fidelity::Exact)));
        assert_eq!(json, "\"ew==\"");
    }

    #[test]
    fn doubles_beyond_their_range_are_infinite() {
        let huge = "9".repeat(400);
        assert_eq!(written(|out| double(&huge, out).unwrap()), "\"Infinity\"");
    }

    proptest! {
        // 30 and 30 digits cross the border between i128 and big integers.
        #[test]
        fn unscaled_integers_come_back(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?") {
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let exact: BigInt = format!("{whole}{fraction:0<30}").parse().unwrap();
            let json = written(|out| assert_eq!(scaled(&text, 30, out), Ok(Fidelity::Exact)));
            let bytes = STANDARD.decode(json.trim_matches('"')).unwrap();
            prop_assert_eq!(number(json.trim_matches('"')), exact.clone());
            prop_assert_eq!(bytes, exact.to_signed_bytes_be());
        }

        #[test]
        fn variable_scale_comes_back(text in "-?(0|[1-9][0-9]{0,120})(\\.[0-9]{1,60})?") {
            let json = written(|out| assert_eq!(variable(&text, out), Ok(Fidelity::Exact)));
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            let scale = value["scale"].as_u64().unwrap() as usize;
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let fraction = fraction.trim_end_matches('0');
            prop_assert_eq!(scale, fraction.len());
            let exact: BigInt = format!("{whole}{fraction}").parse().unwrap();
            prop_assert_eq!(number(value["value"].as_str().unwrap()), exact);
        }
    }
}
