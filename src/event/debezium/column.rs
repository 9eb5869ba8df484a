//! Which type is written how: `PostgresValueConverter.schemaBuilder` and `.converter`,
//! `ReplicationMessageColumnValueResolver`, each entry confirmed by a recording.

use super::decimal::{self, MoneyStyle};
use super::temporal::{DateStyle, TimeUnit};
use super::value::{Alphabet, Array, DebeziumValue, Kind};
use crate::catalog::{BaseType, Column};
use crate::model::{
    BinaryMode, DebeziumOptions, DecimalMode, HstoreMode, IntervalMode, TimePrecision,
};

/// Types below this are built in (`FirstNormalObjectId`), others are told by their name.
const FIRST_USER_OID: u32 = 16384;

/// What becomes of a column.
pub(in super::super) struct Chosen {
    /// `None`: the connector leaves columns of this type out.
    pub(in super::super) value: Option<DebeziumValue>,
    /// What a user should know.
    pub(in super::super) warning: Option<&'static str>,
}

impl DebeziumValue {
    /// The writer of a column.
    pub(in super::super) fn of(column: &Column, options: &DebeziumOptions) -> Chosen {
        let kind = match &column.element {
            // Arrays by their catalog entry, but they print like nothing else.
            _ if matches!(column.base.name.as_str(), "int2vector" | "oidvector") => {
                scalar(&column.base, column.typmod, options)
            }
            Some(element) => array(column, element, options),
            None => scalar(&column.base, column.typmod, options),
        };
        let Some(kind) = kind else {
            let warning = "left out of events, as Debezium's connector leaves out columns of \
                           types it does not know";
            return Chosen { value: None, warning: Some(warning) };
        };
        let warning = match &kind {
            Kind::Constant(_) => Some(
                "Debezium's connector does not read values of this type and writes the same for \
                 all; so do its events here",
            ),
            _ => None,
        };
        let absent = match column.not_null {
            true => kind.absent(),
            false => b"null".to_vec(),
        };
        Chosen { value: Some(DebeziumValue { kind, absent }), warning }
    }
}

fn scalar(base: &BaseType, typmod: i32, options: &DebeziumOptions) -> Option<Kind> {
    match base.kind {
        'e' => return Some(Kind::Text),
        'b' | 'r' => {}
        _ => return None,
    }
    if base.oid >= FIRST_USER_OID {
        return extension(&base.name, options);
    }
    Some(match base.name.as_str() {
        "bool" => Kind::Boolean,
        "int2" | "int4" | "int8" | "oid" => Kind::Integer,
        "float4" | "float8" => Kind::Float,
        "numeric" => numeric(typmod, options.decimal),
        "money" => Kind::Money(match options.decimal {
            DecimalMode::Precise => MoneyStyle::Unscaled,
            DecimalMode::Double => MoneyStyle::Double,
            DecimalMode::String => MoneyStyle::Text,
        }),
        "text" | "varchar" | "bpchar" | "char" | "json" | "jsonb" | "xml" | "uuid" | "inet"
        | "cidr" | "macaddr" | "macaddr8" | "tsvector" | "int4range" | "int8range" | "numrange"
        | "tsrange" | "tstzrange" | "daterange" => Kind::Text,
        "bytea" => match options.binary {
            BinaryMode::Bytes | BinaryMode::Base64 => Kind::Base64(Alphabet::Standard),
            BinaryMode::Base64UrlSafe => Kind::Base64(Alphabet::UrlSafe),
            BinaryMode::Hex => Kind::Hex,
        },
        "date" => Kind::Date(match options.time_precision {
            TimePrecision::Isostring => DateStyle::Iso,
            _ => DateStyle::EpochDays,
        }),
        "time" => Kind::Time(match options.time_precision {
            TimePrecision::AdaptiveTimeMicroseconds => TimeUnit::Micros,
            other => unit(other, typmod),
        }),
        "timestamp" => Kind::Timestamp(unit(options.time_precision, typmod)),
        "timestamptz" => Kind::TimestampTz(match typmod {
            0 => None,
            1..=6 => Some(typmod as u8),
            _ => Some(6),
        }),
        "timetz" => Kind::TimeTz,
        "interval" => match options.interval {
            IntervalMode::Numeric => Kind::IntervalMicros,
            IntervalMode::String => Kind::IntervalIso,
        },
        "bit" | "varbit" if typmod == 1 => Kind::Flag,
        "bit" | "varbit" => Kind::Bits,
        "point" => Kind::Point,
        "name" => Kind::Constant("null"),
        "int2vector" | "oidvector" => Kind::Constant("[]"),
        _ => return None,
    })
}

/// Extensions' types, which the connector knows by name in whatever schema (`TypeRegistry`).
fn extension(name: &str, options: &DebeziumOptions) -> Option<Kind> {
    Some(match name {
        "citext" | "ltree" | "isbn" => Kind::Text,
        "hstore" => Kind::Hstore(options.hstore),
        "geometry" | "geography" => Kind::Geometry,
        "vector" | "halfvec" => Kind::Vector,
        "sparsevec" => Kind::SparseVector,
        _ => return None,
    })
}

/// A numeric's scale as the connector reads it: the low 16 bits of the modifier, which is not the
/// scale where that is negative (`numeric(3,-2)` comes out with scale 2046).
fn numeric(typmod: i32, mode: DecimalMode) -> Kind {
    let scale = (typmod >= 4).then(|| ((typmod - 4) & 0xffff) as u16);
    match (mode, scale) {
        (DecimalMode::Precise, Some(scale)) => Kind::ScaledDecimal(scale),
        (DecimalMode::Precise, None) => Kind::VariableDecimal,
        (DecimalMode::Double, _) => Kind::DoubleDecimal,
        (DecimalMode::String, scale) => Kind::TextDecimal(scale.unwrap_or(0)),
    }
}

fn unit(precision: TimePrecision, typmod: i32) -> TimeUnit {
    match precision {
        TimePrecision::Adaptive | TimePrecision::AdaptiveTimeMicroseconds => match typmod {
            0..=3 => TimeUnit::Millis,
            _ => TimeUnit::Micros,
        },
        TimePrecision::Connect => TimeUnit::Millis,
        TimePrecision::Isostring => TimeUnit::Iso,
        TimePrecision::Microseconds => TimeUnit::Micros,
        TimePrecision::Nanoseconds => TimeUnit::Nanos,
    }
}

fn array(column: &Column, element: &BaseType, options: &DebeziumOptions) -> Option<Kind> {
    let built_in = column.base.oid < FIRST_USER_OID;
    // An array of a domain has an array type of its own, which the connector does not know.
    if element.oid < FIRST_USER_OID && !built_in {
        return None;
    }
    match element.name.as_str() {
        "money" | "name" | "interval" | "varbit" | "xml" | "point" if built_in => return None,
        "int2vector" | "oidvector" if built_in => return None,
        // The connector fails on every value and writes null.
        "bit" if built_in => return Some(Kind::Constant("null")),
        _ => {}
    }
    let nullable = element.kind != 'e';
    let element = scalar(element, column.typmod, options)?;
    Some(Kind::Array(Box::new(Array { element, nullable })))
}

impl Kind {
    /// What the connector writes for a column declared not null of whose value it knows nothing:
    /// the fallback values of `PostgresValueConverter` and `JdbcValueConverters`.
    fn absent(&self) -> Vec<u8> {
        let text = match self {
            Self::Text | Self::Base64(_) | Self::Hex | Self::Bits => "\"\"",
            Self::Boolean | Self::Flag => "false",
            Self::Integer | Self::IntervalMicros => "0",
            Self::Float | Self::DoubleDecimal | Self::Money(MoneyStyle::Double) => "0.0",
            Self::ScaledDecimal(_) | Self::Money(MoneyStyle::Unscaled) => "\"AA==\"",
            Self::VariableDecimal => "{\"scale\":0,\"value\":\"AA==\"}",
            Self::Money(MoneyStyle::Text) => "\"0.00\"",
            Self::TextDecimal(scale) => {
                let mut out = Vec::new();
                // "0" is a number.
                let _ = decimal::text("0", *scale, &mut out);
                return out;
            }
            Self::Date(DateStyle::EpochDays) => "0",
            Self::Date(DateStyle::Iso) => "\"1970-01-01Z\"",
            Self::Time(TimeUnit::Iso) | Self::TimeTz => "\"00:00:00Z\"",
            Self::Timestamp(TimeUnit::Iso) | Self::TimestampTz(_) => "\"1970-01-01T00:00:00Z\"",
            Self::Time(_) | Self::Timestamp(_) => "0",
            Self::IntervalIso => "\"P0Y0M0DT0H0M0S\"",
            Self::Hstore(HstoreMode::Json) => "\"{}\"",
            Self::Hstore(HstoreMode::Map) => "{}",
            Self::Point => {
                "{\"x\":0.0,\"y\":0.0,\"wkb\":\"AQEAAAAAAAAAAAAAAAAAAAAAAAAA\",\"srid\":null}"
            }
            Self::Geometry => "{\"wkb\":\"AQcAAAAAAAAA\",\"srid\":null}",
            Self::Vector | Self::Array(_) => "[]",
            Self::SparseVector => "null",
            Self::Constant(json) => json,
        };
        text.as_bytes().to_vec()
    }
}
