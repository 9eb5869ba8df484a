//! How the values of one column are written.

use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::super::json;
use super::super::landing::boolean;
use super::super::value::{Fidelity, Malformed, WriteValue};
use super::temporal::{DateStyle, TimeUnit};
use super::{array, binary, decimal, geometry, hstore, interval, temporal};
use crate::model::HstoreMode;

/// The writer of a column, and what stands for its value where only the key is known.
pub(in super::super) struct DebeziumValue {
    pub(super) kind: Kind,
    pub(super) absent: Vec<u8>,
}

impl Default for DebeziumValue {
    fn default() -> Self {
        Self { kind: Kind::Text, absent: b"null".to_vec() }
    }
}

/// What a writer does; [`super::column`] says which type gets which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Boolean,
    Integer,
    Float,
    /// `numeric`: bytes of the unscaled integer at this scale.
    ScaledDecimal(u16),
    /// `numeric` without scale: `{"scale":…,"value":…}`.
    VariableDecimal,
    /// `numeric`: the nearest double.
    DoubleDecimal,
    /// `numeric`: text, padded to the scale.
    TextDecimal(u16),
    Money(decimal::MoneyStyle),
    Base64(Alphabet),
    Hex,
    Date(DateStyle),
    Time(TimeUnit),
    Timestamp(TimeUnit),
    /// The number of fraction digits; `None` for as many as it takes.
    TimestampTz(Option<u8>),
    TimeTz,
    IntervalMicros,
    IntervalIso,
    /// One bit.
    Flag,
    Bits,
    Hstore(HstoreMode),
    Point,
    Geometry,
    Vector,
    SparseVector,
    Array(Box<Array>),
    /// Types whose values the connector does not read: always this JSON.
    Constant(&'static str),
}

/// An array's elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Array {
    pub(super) element: Kind,
    /// Whether elements may be null: a null in an array of enums makes the whole array null.
    pub(super) nullable: bool,
}

/// Base64's two alphabets; both pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alphabet {
    Standard,
    UrlSafe,
}

impl Alphabet {
    fn engine(self) -> &'static GeneralPurpose {
        match self {
            Self::Standard => &STANDARD,
            Self::UrlSafe => &URL_SAFE,
        }
    }
}

impl WriteValue for DebeziumValue {
    fn write(&self, text: &str, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
        self.kind.write(text, out)
    }

    fn absent(&self) -> &[u8] {
        &self.absent
    }
}

impl Kind {
    pub(super) fn write(&self, text: &str, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
        match self {
            Self::Text => json::string(text, out),
            Self::Boolean => out.extend_from_slice(boolean(text)?),
            Self::Integer => json::integer_text(text, out)?,
            Self::Float => decimal::float(text, out)?,
            Self::ScaledDecimal(scale) => return decimal::scaled(text, *scale, out),
            Self::VariableDecimal => return decimal::variable(text, out),
            Self::DoubleDecimal => decimal::double(text, out)?,
            Self::TextDecimal(scale) => decimal::text(text, *scale, out)?,
            Self::Money(style) => decimal::money(text, *style, out)?,
            Self::Base64(alphabet) => json::base64(&binary::bytea(text)?, alphabet.engine(), out),
            Self::Hex => {
                binary::bytea(text)?;
                json::string(&text[2..], out);
            }
            Self::Date(style) => temporal::date(text, *style, out)?,
            Self::Time(unit) => temporal::time(text, *unit, out)?,
            Self::Timestamp(unit) => return temporal::timestamp(text, *unit, out),
            Self::TimestampTz(digits) => temporal::timestamptz(text, *digits, out)?,
            Self::TimeTz => temporal::timetz(text, out)?,
            Self::IntervalMicros => interval::micros(text, out)?,
            Self::IntervalIso => interval::iso(text, out)?,
            Self::Flag => out.extend_from_slice(binary::flag(text)?),
            Self::Bits => json::base64(&binary::bits(text)?, &STANDARD, out),
            Self::Hstore(mode) => hstore::write(text, *mode, out)?,
            Self::Point => geometry::point(text, out)?,
            Self::Geometry => geometry::ewkb(text, out)?,
            Self::Vector => geometry::vector(text, out)?,
            Self::SparseVector => geometry::sparse_vector(text, out)?,
            Self::Array(array) => {
                return array::write(
                    text,
                    array.nullable,
                    |text, out| array.element.write(text, out),
                    out,
                );
            }
            Self::Constant(json) => {
                out.extend_from_slice(json.as_bytes());
                return Ok(Fidelity::Lost);
            }
        }
        Ok(Fidelity::Exact)
    }
}
