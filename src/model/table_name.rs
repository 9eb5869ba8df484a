//! The names of tables.

use std::fmt;
use std::iter::Peekable;
use std::str::{Chars, FromStr};

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder, Type};

use crate::error::Error;

/// A table's name, unquoted. `Display` quotes where PostgreSQL would need it, for people; SQL text
/// goes through `postgres::QualifiedName`.
///
/// `FromStr` reads `schema.table` as PostgreSQL does: unquoted parts are folded to lower case,
/// quoted ones are taken as they are.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The relation's name in it.
    #[serde(rename = "table")]
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |f: &mut fmt::Formatter<'_>, part: &str| {
            let plain = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if plain { f.write_str(part) } else { write!(f, "\"{}\"", part.replace('"', "\"\"")) }
        };
        part(f, &self.schema)?;
        f.write_str(".")?;
        part(f, &self.name)
    }
}

impl FromStr for TableName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let mut chars = text.chars().peekable();
            let schema = identifier(&mut chars)?;
            (chars.next()? == '.').then_some(())?;
            let name = identifier(&mut chars)?;
            chars.next().is_none().then_some(Self { schema, name })
        };
        parse().ok_or_else(|| {
            Error::refused(format!(
                "{text:?} is not a table's name: write schema.table, with double quotes around \
                 parts that need them"
            ))
        })
    }
}

fn identifier(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut name = String::new();
    if chars.next_if_eq(&'"').is_some() {
        loop {
            match chars.next()? {
                '"' if chars.next_if_eq(&'"').is_none() => break,
                c => name.push(c),
            }
        }
    } else {
        while let Some(c) = chars.next_if(|&c| c != '.' && c != '"') {
            name.push(c.to_ascii_lowercase());
        }
    }
    (!name.is_empty()).then_some(name)
}

/// Lists of names as text, as requests have them.
pub(super) mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::TableName;

    pub(in crate::model) fn serialize<S: Serializer>(
        names: &[TableName],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(names.iter().map(ToString::to_string))
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<TableName>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        names.iter().map(|name| name.parse().map_err(de::Error::custom)).collect()
    }
}

/// `schema.table`; parts are quoted where they must be.
const PATTERN: &str = r#"^("([^"\u0000]|"")+"|[^."\u0000]+)\.("([^"\u0000]|"")+"|[^."\u0000]+)$"#;

/// The schema of such a list.
pub(super) fn list_schema() -> Array {
    let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some(PATTERN));
    ArrayBuilder::new().items(name.build()).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_postgresql_reads_them() {
        for (text, schema, name) in [
            ("public.orders", "public", "orders"),
            ("Public.Orders", "public", "orders"),
            (r#""My Schema"."Ord""ers""#, "My Schema", "Ord\"ers"),
            (r#"s."a.b""#, "s", "a.b"),
        ] {
            let table: TableName = text.parse().unwrap();
            assert_eq!((table.schema.as_str(), table.name.as_str()), (schema, name));
            assert_eq!(table.to_string().parse::<TableName>().unwrap(), table);
        }
        for text in ["orders", "a.b.c", "a.", ".b", "", r#""a.b"#, r#"a"b.c"#, r#"a."b"c"#] {
            assert!(text.parse::<TableName>().is_err(), "{text}");
        }
    }
}
