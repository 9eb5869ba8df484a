//! Text that no type prints never panics and never gets through as something else.

use proptest::prelude::*;

use super::decimal::MoneyStyle;
use super::temporal::{DateStyle, TimeUnit};
use super::value::{Alphabet, Array, Kind};
use crate::model::HstoreMode;

fn kinds() -> Vec<Kind> {
    let array = |element| Kind::Array(Box::new(Array { element, nullable: true }));
    vec![
        Kind::Boolean,
        Kind::Integer,
        Kind::Float,
        Kind::ScaledDecimal(2),
        Kind::VariableDecimal,
        Kind::DoubleDecimal,
        Kind::TextDecimal(2),
        Kind::Money(MoneyStyle::Unscaled),
        Kind::Base64(Alphabet::Standard),
        Kind::Hex,
        Kind::Date(DateStyle::EpochDays),
        Kind::Date(DateStyle::Iso),
        Kind::Time(TimeUnit::Micros),
        Kind::Timestamp(TimeUnit::Nanos),
        Kind::Timestamp(TimeUnit::Iso),
        Kind::TimestampTz(Some(6)),
        Kind::TimeTz,
        Kind::IntervalMicros,
        Kind::IntervalIso,
        Kind::Flag,
        Kind::Bits,
        Kind::Hstore(HstoreMode::Json),
        Kind::Point,
        Kind::Geometry,
        Kind::Vector,
        Kind::SparseVector,
        array(Kind::Integer),
        array(Kind::Text),
        array(Kind::Date(DateStyle::Iso)),
    ]
}

fn try_all(text: &str) -> Result<(), TestCaseError> {
    for kind in kinds() {
        let mut out = Vec::new();
        if kind.write(text, &mut out).is_ok() {
            let json = String::from_utf8(out).unwrap();
            let parsed = serde_json::from_str::<serde_json::Value>(&json);
            prop_assert!(parsed.is_ok(), "{:?} wrote {} for {:?}", kind, json, text);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text(text: String) {
        try_all(&text)?;
    }

    #[test]
    fn text_of_the_right_characters(text in "[-+0-9:. {}\"\\\\,=>NULBCTZeyrmonsday\\[\\]()é]{0,40}") {
        try_all(&text)?;
    }
}

#[test]
fn values_of_another_type() {
    for text in [
        "x", "é", "", "1 2 3", "{", "{1", "{1,", "{{1}", "\"", "[0:1]", "\"a\"=>", "(1", "\\x0",
        "{\"a",
    ] {
        try_all(text).unwrap();
    }
    let strict = kinds().into_iter().filter(|kind| *kind != Kind::Flag);
    for kind in strict {
        assert!(kind.write("no such value", &mut Vec::new()).is_err(), "{kind:?}");
    }
}
