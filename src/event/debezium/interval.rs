//! `interval`, printed in style `postgres`.

use super::super::json::{self, digits};
use super::super::value::Malformed;

const MALFORMED: Malformed = Malformed("is not an interval in style postgres");

/// Days in a month (`MicroDuration.DAYS_PER_MONTH_AVG`).
const DAYS_PER_MONTH: f64 = 365.25 / 12.0;

/// An interval's parts as the driver's `PGInterval` keeps them: all parts of the time of day carry
/// its sign.
#[derive(Default)]
struct Interval<'a> {
    years: i32,
    months: i32,
    days: i32,
    negative_time: bool,
    hours: i64,
    minutes: i64,
    seconds: i64,
    /// The second's fraction without the zeros at its end.
    fraction: &'a str,
}

impl<'a> Interval<'a> {
    fn parse(text: &'a str) -> Result<Self, Malformed> {
        let mut interval = Self::default();
        let mut words = text.split(' ');
        while let Some(word) = words.next() {
            if word.contains(':') {
                interval.parse_time(word)?;
                continue;
            }
            let number = word.strip_prefix('+').unwrap_or(word).parse().map_err(|_| MALFORMED)?;
            match words.next() {
                Some("year" | "years") => interval.years = number,
                Some("mon" | "mons") => interval.months = number,
                Some("day" | "days") => interval.days = number,
                _ => return Err(MALFORMED),
            }
        }
        Ok(interval)
    }

    fn parse_time(&mut self, word: &'a str) -> Result<(), Malformed> {
        self.negative_time = word.starts_with('-');
        let word = word.strip_prefix(['-', '+']).unwrap_or(word);
        let mut parts = word.split(':');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(MALFORMED);
        let number = |text: &str| match digits(text.as_bytes()) {
            (_, []) => text.parse().map_err(|_| MALFORMED),
            _ => Err(MALFORMED),
        };
        (self.hours, self.minutes) = (number(part()?)?, number(part()?)?);
        let (seconds, fraction) = {
            let seconds = part()?;
            seconds.split_once('.').unwrap_or((seconds, ""))
        };
        self.seconds = number(seconds)?;
        if fraction.len() > 6 || !digits(fraction.as_bytes()).1.is_empty() {
            return Err(MALFORMED);
        }
        self.fraction = fraction.trim_end_matches('0');
        Ok(())
    }
}

/// `interval.handling.mode=numeric`: microseconds, computed in doubles in the connector's order of
/// operations (`MicroDuration.durationMicros`), so that the rounding is the same.
///
/// PostgreSQL 17's infinities become the largest and the smallest number.
pub(super) fn micros(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if let Some(sign) = infinite(text) {
        json::integer(if sign > 0 { i64::MAX } else { i64::MIN }, out);
        return Ok(());
    }
    let interval = Interval::parse(text)?;
    let sign = if interval.negative_time { -1.0 } else { 1.0 };
    let micros = match interval.fraction {
        "" => 0.0,
        fraction => format!("{fraction:0<6}").parse::<f64>().map_err(|_| MALFORMED)?,
    };
    let seconds = sign * interval.seconds as f64 + sign * micros / 1e6;
    let months = interval.years.wrapping_mul(12).wrapping_add(interval.months);
    let days = f64::from(months) * DAYS_PER_MONTH + f64::from(interval.days);
    let hours = days * 24.0 + sign * interval.hours as f64;
    let minutes = hours * 60.0 + sign * interval.minutes as f64;
    let total = minutes * 60.0 + seconds;
    // Like Java's cast: towards zero, and saturating.
    json::integer((total * 1e6) as i64, out);
    Ok(())
}

/// `interval.handling.mode=string` (`Interval.toIsoString`): every part, also those that are zero,
/// each with its own sign.
pub(super) fn iso(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if infinite(text).is_some() {
        json::string(text, out);
        return Ok(());
    }
    let interval = Interval::parse(text)?;
    let signed = |number: i64| if interval.negative_time { -number } else { number };
    out.extend_from_slice(b"\"P");
    let parts = [
        (i64::from(interval.years), "Y"),
        (i64::from(interval.months), "M"),
        (i64::from(interval.days), "DT"),
        (signed(interval.hours), "H"),
        (signed(interval.minutes), "M"),
    ];
    for (number, unit) in parts {
        json::integer(number, out);
        out.extend_from_slice(unit.as_bytes());
    }
    if interval.negative_time && interval.seconds == 0 && !interval.fraction.is_empty() {
        out.push(b'-');
    }
    json::integer(signed(interval.seconds), out);
    if !interval.fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(interval.fraction.as_bytes());
    }
    out.extend_from_slice(b"S\"");
    Ok(())
}

fn infinite(text: &str) -> Option<i8> {
    match text {
        "infinity" => Some(1),
        "-infinity" => Some(-1),
        _ => None,
    }
}
