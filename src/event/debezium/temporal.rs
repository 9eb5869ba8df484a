//! `date`, `time`, `timetz`, `timestamp` and `timestamptz`, with the connector's special values.

use super::super::json;
use super::super::value::{Fidelity, Malformed, lost};
use super::calendar::{Date, MICROS_PER_DAY, MICROS_PER_SECOND, era, parse_time, two, write_time};

/// How `date` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateStyle {
    EpochDays,
    Iso,
}

/// How `time` and `timestamp` are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Millis,
    Micros,
    Nanos,
    Iso,
}

const DATE: Malformed = Malformed("is not a date in ISO style");
const TIME: Malformed = Malformed("is not a time of day in ISO style");
const TIMESTAMP: Malformed = Malformed("is not a timestamp in ISO style");
const TIMESTAMPTZ: Malformed = Malformed("is not a timestamp in ISO style at UTC");

/// `date`. The infinities are what the connector makes of the driver's constants
/// (`PostgresValueConverter.POSITIVE_INFINITY_LOCAL_DATE`).
pub(super) fn date(text: &str, style: DateStyle, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let special = match (text, style) {
        ("infinity", DateStyle::EpochDays) => "-2147472692",
        ("-infinity", DateStyle::EpochDays) => "-2147472691",
        ("infinity", DateStyle::Iso) => "\"-5877611-06-21Z\"",
        ("-infinity", DateStyle::Iso) => "\"-5877611-06-22Z\"",
        _ => "",
    };
    if !special.is_empty() {
        out.extend_from_slice(special.as_bytes());
        return Ok(());
    }
    let (bytes, bc) = era(text);
    let (date, []) = Date::parse(bytes)? else { return Err(DATE) };
    let date = if bc { date.bc() } else { date };
    match style {
        DateStyle::EpochDays => json::integer(date.epoch_day(), out),
        DateStyle::Iso => {
            out.push(b'"');
            date.write(out);
            out.extend_from_slice(b"Z\"");
        }
    }
    Ok(())
}

/// `time`.
pub(super) fn time(text: &str, unit: TimeUnit, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (micros, []) = parse_time(text.as_bytes())? else { return Err(TIME) };
    match unit {
        TimeUnit::Millis => json::integer(micros / 1000, out),
        TimeUnit::Micros => json::integer(micros, out),
        TimeUnit::Nanos => json::integer(micros * 1000, out),
        TimeUnit::Iso => zoned_time(micros % MICROS_PER_DAY, out),
    }
    Ok(())
}

/// `timetz`, moved to UTC.
pub(super) fn timetz(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (micros, rest) = parse_time(text.as_bytes())?;
    let (sign, offset) = match rest {
        [b'+', offset @ ..] => (1, offset),
        [b'-', offset @ ..] => (-1, offset),
        _ => return Err(TIME),
    };
    let part = |high: &u8, low: &u8| two(*high, *low).map(i64::from).ok_or(TIME);
    let offset = match offset {
        [h1, h2] => part(h1, h2)? * 3600,
        [h1, h2, b':', m1, m2] => part(h1, h2)? * 3600 + part(m1, m2)? * 60,
        [h1, h2, b':', m1, m2, b':', s1, s2] => {
            part(h1, h2)? * 3600 + part(m1, m2)? * 60 + part(s1, s2)?
        }
        _ => return Err(TIME),
    };
    zoned_time((micros - sign * offset * MICROS_PER_SECOND).rem_euclid(MICROS_PER_DAY), out);
    Ok(())
}

fn zoned_time(micros: i64, out: &mut Vec<u8>) {
    out.push(b'"');
    write_time(micros, None, out);
    out.extend_from_slice(b"Z\"");
}

/// A date and the microseconds of its day.
fn parse_timestamp(text: &[u8], bc: bool) -> Result<(Date, i64, &[u8]), Malformed> {
    let (date, [b' ', rest @ ..]) = Date::parse(text)? else { return Err(TIMESTAMP) };
    let (micros, rest) = parse_time(rest)?;
    Ok((if bc { date.bc() } else { date }, micros, rest))
}

/// `timestamp`. Nanoseconds reach from 1677 to 2262: what lies beyond is lost, as it is with the
/// connector. Microseconds overflow in 294247 AD, the way they do there.
pub(super) fn timestamp(
    text: &str,
    unit: TimeUnit,
    out: &mut Vec<u8>,
) -> Result<Fidelity, Malformed> {
    if let Some(special) = infinite_timestamp(text, unit) {
        out.extend_from_slice(special.as_bytes());
        return Ok(Fidelity::Exact);
    }
    let (bytes, bc) = era(text);
    let (date, micros, []) = parse_timestamp(bytes, bc)? else { return Err(TIMESTAMP) };
    if unit == TimeUnit::Iso {
        zoned_timestamp(date, micros, None, out);
        return Ok(Fidelity::Exact);
    }
    let seconds = date.epoch_day() * 86_400 + micros / MICROS_PER_SECOND;
    let fraction = micros % MICROS_PER_SECOND;
    let number = match unit {
        TimeUnit::Millis => seconds * 1000 + fraction / 1000,
        TimeUnit::Micros => seconds.saturating_mul(MICROS_PER_SECOND).wrapping_add(fraction),
        TimeUnit::Nanos | TimeUnit::Iso => {
            let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(fraction) * 1000;
            match i64::try_from(nanos) {
                Ok(nanos) => nanos,
                Err(_) => {
                    let start = out.len();
                    return Ok(lost(out, start));
                }
            }
        }
    };
    json::integer(number, out);
    Ok(Fidelity::Exact)
}

/// `PGStatement.DATE_POSITIVE_INFINITY` and its negative, as each unit shows them.
fn infinite_timestamp(text: &str, unit: TimeUnit) -> Option<&'static str> {
    let (positive, negative) = match unit {
        TimeUnit::Millis => ("9223372036825200", "-9223372036832400"),
        TimeUnit::Micros => ("9223372036825200000", "-9223372036832400000"),
        TimeUnit::Nanos => ("9223372036854775807", "-9223372036854775808"),
        TimeUnit::Iso => ("\"+294247-01-10T04:00:25.2Z\"", "\"-290308-12-21T19:59:27.6Z\""),
    };
    match text {
        "infinity" => Some(positive),
        "-infinity" => Some(negative),
        _ => None,
    }
}

/// `timestamptz`, printed at UTC.
pub(super) fn timestamptz(
    text: &str,
    digits: Option<u8>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    if matches!(text, "infinity" | "-infinity") {
        json::string(text, out);
        return Ok(());
    }
    let (bytes, bc) = era(text);
    let (date, micros, b"+00") = parse_timestamp(bytes, bc)? else { return Err(TIMESTAMPTZ) };
    zoned_timestamp(date, micros, digits, out);
    Ok(())
}

fn zoned_timestamp(date: Date, micros: i64, digits: Option<u8>, out: &mut Vec<u8>) {
    out.push(b'"');
    date.write(out);
    out.push(b'T');
    write_time(micros, digits, out);
    out.extend_from_slice(b"Z\"");
}
