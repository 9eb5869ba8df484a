//! Dates and times of day as PostgreSQL prints them in ISO style, over PostgreSQL's whole range
//! (4713 BC to 5874897 AD), which is more than calendar libraries cover.

use super::super::json::digits;
use super::super::value::Malformed;

const DATE: Malformed = Malformed("is not a date in ISO style");
const TIME: Malformed = Malformed("is not a time of day in ISO style");

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A date of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    /// Astronomical: 1 BC is 0.
    pub(super) year: i32,
    pub(super) month: u8,
    pub(super) day: u8,
}

impl Date {
    /// The date that a text starts with, and what follows it. The era is not looked at.
    pub(super) fn parse(text: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (year, rest) = digits(text);
        let (&[b'-', m1, m2, b'-', d1, d2], rest) = rest.split_first_chunk().ok_or(DATE)? else {
            return Err(DATE);
        };
        if !(4..=7).contains(&year.len()) {
            return Err(DATE);
        }
        let year = year.iter().fold(0, |year, digit| year * 10 + i32::from(digit - b'0'));
        let month = two(m1, m2).filter(|month| (1..=12).contains(month)).ok_or(DATE)?;
        let day = two(d1, d2).filter(|day| (1..=31).contains(day)).ok_or(DATE)?;
        Ok((Self { year, month, day }, rest))
    }

    /// The same date before Christ.
    pub(super) fn bc(self) -> Self {
        Self { year: 1 - self.year, ..self }
    }

    /// Days since 1970-01-01. The arithmetic is `days_from_civil` of
    /// <https://howardhinnant.github.io/date_algorithms.html>: years start in March, so that the
    /// leap day is a year's last, and 400 of them have 146097 days.
    pub(super) fn epoch_day(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    /// Appends the date as Java's `ISO_LOCAL_DATE` does: at least four digits of the year, a sign
    /// if it is negative or has more.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        if self.year > 9999 {
            out.push(b'+');
        } else if self.year < 0 {
            out.push(b'-');
        }
        let year = self.year.unsigned_abs();
        if year < 10_000 {
            write_two((year / 100) as u8, out);
            write_two((year % 100) as u8, out);
        } else {
            out.extend_from_slice(itoa::Buffer::new().format(year).as_bytes());
        }
        out.push(b'-');
        write_two(self.month, out);
        out.push(b'-');
        write_two(self.day, out);
    }
}

/// The text without the era at its end, and whether that is BC.
pub(super) fn era(text: &str) -> (&[u8], bool) {
    match text.strip_suffix(" BC") {
        Some(rest) => (rest.as_bytes(), true),
        None => (text.as_bytes(), false),
    }
}

/// The microseconds of the day that a text starts with (`24:00:00` is a whole day), and what
/// follows it.
pub(super) fn parse_time(text: &[u8]) -> Result<(i64, &[u8]), Malformed> {
    let (&[h1, h2, b':', m1, m2, b':', s1, s2], rest) = text.split_first_chunk().ok_or(TIME)?
    else {
        return Err(TIME);
    };
    let part = |high, low| two(high, low).map(i64::from).ok_or(TIME);
    let (hour, minute, second) = (part(h1, h2)?, part(m1, m2)?, part(s1, s2)?);
    if minute > 59 || second > 59 {
        return Err(TIME);
    }
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => digits(rest),
        _ => (&[][..], rest),
    };
    if fraction.len() > 6 {
        return Err(TIME);
    }
    let micros = fraction
        .iter()
        .chain(std::iter::repeat_n(&b'0', 6 - fraction.len()))
        .fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0'));
    let micros = ((hour * 60 + minute) * 60 + second) * MICROS_PER_SECOND + micros;
    if micros > MICROS_PER_DAY {
        return Err(TIME);
    }
    Ok((micros, rest))
}

/// Appends a time of day with this many digits of the second's fraction; `None` for as many as it
/// takes.
pub(super) fn write_time(micros: i64, width: Option<u8>, out: &mut Vec<u8>) {
    let seconds = micros / MICROS_PER_SECOND;
    write_two((seconds / 3600) as u8, out);
    out.push(b':');
    write_two((seconds / 60 % 60) as u8, out);
    out.push(b':');
    write_two((seconds % 60) as u8, out);
    let micros = micros % MICROS_PER_SECOND;
    if width.is_none() && micros == 0 {
        return;
    }
    let mut fraction = [b'0'; 6];
    let mut rest = micros;
    for digit in fraction.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let width = match width {
        Some(width) => usize::from(width).min(6),
        None => fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |at| at + 1),
    };
    out.push(b'.');
    out.extend_from_slice(&fraction[..width]);
}

pub(super) fn two(high: u8, low: u8) -> Option<u8> {
    (high.is_ascii_digit() && low.is_ascii_digit()).then(|| (high - b'0') * 10 + (low - b'0'))
}

fn write_two(number: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + number / 10, b'0' + number % 10]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> i64 {
        let (bytes, bc) = era(text);
        let (date, rest) = Date::parse(bytes).unwrap();
        assert!(rest.is_empty());
        if bc { date.bc().epoch_day() } else { date.epoch_day() }
    }

    #[test]
    fn days_agree_with_jiff_over_all_its_years() {
        let epoch = jiff::civil::date(1970, 1, 1);
        let mut at = jiff::civil::date(1, 1, 1);
        while at.year() < 9999 {
            let expected = i64::from(epoch.until(at).unwrap().get_days());
            assert_eq!(day(&at.to_string()), expected, "{at}");
            at = at.checked_add(jiff::Span::new().days(13)).unwrap();
        }
    }

    /// `select date '…' - date '1970-01-01'` on PostgreSQL 15.
    #[test]
    fn days_beyond_jiff() {
        assert_eq!(day("4713-01-01 BC"), -2_440_550);
        assert_eq!(day("0001-12-31 BC"), -719_163);
        assert_eq!(day("5874897-12-31"), 2_145_042_905);
    }

    #[test]
    fn malformed_dates_and_times_are_refused() {
        for text in [
            "",
            "2024",
            "2024-13-01",
            "2024-00-01",
            "2024-01-32",
            "24-01-01",
            "2024/01/01",
            "02.01.2024",
            "٢٠٢٤-01-01",
        ] {
            assert!(Date::parse(text.as_bytes()).is_err(), "{text}");
        }
        for text in
            ["", "12:00", "24:00:00.000001", "25:00:00", "12:60:00", "12:00:60", "12:00:00.1234567"]
        {
            assert!(parse_time(text.as_bytes()).is_err(), "{text}");
        }
    }
}
