//! Names and literals in SQL text. Values are bound, never pasted; what cannot be bound (names, DDL
//! options) passes through here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::TableName;

/// One identifier. `Display` quotes it, always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ident(String);

impl Ident {
    /// An identifier from its unquoted name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The unquoted name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A relation in a schema. `Display` quotes both names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualifiedName {
    /// The schema.
    pub schema: Ident,
    /// The relation's name.
    pub name: Ident,
}

impl QualifiedName {
    /// A relation from unquoted names.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: Ident::new(schema), name: Ident::new(name) }
    }
}

impl From<&TableName> for QualifiedName {
    fn from(table: &TableName) -> Self {
        Self::new(&table.schema, &table.name)
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A string literal for DDL, which takes no parameters. `Display` quotes it so that it means the
/// same whatever `standard_conforming_strings` says.
#[derive(Clone, Copy, Debug)]
pub struct Literal<'a>(pub &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('\\') {
            f.write_str(" E'")?
        } else {
            f.write_str("'")?
        }
        for c in self.0.chars() {
            match c {
                '\'' => f.write_str("''")?,
                '\\' => f.write_str("\\\\")?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        f.write_str("'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        assert_eq!(Ident::new(r#"a"; drop table b; --"#).to_string(), r#""a""; drop table b; --""#);
        assert_eq!(QualifiedName::new("S", "select").to_string(), r#""S"."select""#);
    }

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(Literal("it's").to_string(), "'it''s'");
        assert_eq!(Literal(r"a\'b").to_string(), r" E'a\\''b'");
    }
}
