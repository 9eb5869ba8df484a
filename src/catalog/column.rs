//! A column and its type, resolved far enough to print and to encode its values.

use serde::{Deserialize, Serialize};

use crate::postgres::QualifiedName;

/// One compared column, as head's catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The column's name, unquoted.
    pub name: String,
    /// `pg_attribute.attnum` on head.
    pub attnum: i16,
    /// The declared type as `format_type` prints it, for messages (`numeric(10,2)`, `public.mood`).
    pub declared: String,
    /// The type with every domain removed. Encoders and printers decide by this one.
    pub base: BaseType,
    /// The type modifier in force (the domain's, where the domain carries it); -1 for none.
    pub typmod: i32,
    /// For an array type, the type of its elements with every domain removed.
    pub element: Option<BaseType>,
    /// Whether the column (or a domain over its type) is declared not null.
    pub not_null: bool,
}

impl Column {
    /// The schema that holds the operators which compare its values. Sessions look operators up in
    /// `pg_catalog` alone; there they would find text's for a type that turns into text (citext),
    /// and none for others (ltree). A type of an extension has them where it lies itself; enums,
    /// composites, ranges and arrays share built-in ones.
    pub(crate) fn operator_schema(&self) -> &str {
        let has_its_own = self.base.kind == 'b' && self.element.is_none();
        if has_its_own { &self.base.schema } else { "pg_catalog" }
    }

    /// `::type` with the type that the column has without its domains. Enums' functions and
    /// operators take no domain; and for a domain over another type somebody may have an operator
    /// of their own, in the schema in which the type's is looked for. It is no conversion, and an
    /// index serves as before.
    pub(crate) fn base_cast(&self) -> String {
        format!("::{}", QualifiedName::new(&self.base.schema, &self.base.name))
    }
}

/// A type that is not a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseType {
    /// `pg_type.oid`. Below 16384 it is built in and the same on every server.
    pub oid: u32,
    /// The schema that holds the type (`pg_catalog`, `public`, …).
    pub schema: String,
    /// `pg_type.typname` (`int4`, `numeric`, `_text`, `hstore`, …).
    pub name: String,
    /// `pg_type.typtype`: b(ase), c(omposite), e(num), r(ange), m(ultirange), p(seudo).
    pub kind: char,
}
