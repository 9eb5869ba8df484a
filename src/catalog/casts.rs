//! Casts that a database has beside PostgreSQL's own.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::Column;
use crate::error::Result;

/// The types of a database from which it has an implicit cast of its own.
///
/// PostgreSQL has one `=` and one `<` for all enums, one for all arrays, and so on. Where a value may
/// also be cast implicitly, to text say, it finds two operators for `enum = enum` and prefers none
/// ("operator is not unique"), in whatever schema they are looked for. Types with operators of their
/// own are not concerned: those match exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImplicitCasts(BTreeSet<u32>);

impl ImplicitCasts {
    /// Reads them.
    pub(crate) async fn read(connection: &mut PgConnection) -> Result<Self> {
        let types: Vec<i64> = sqlx::query_scalar(
            r#"
            select distinct c.castsource::int8
              from pg_cast as c
             -- Those of PostgreSQL have smaller numbers.
             where c.castcontext = 'i' and c.oid >= 16384::oid
            "#,
        )
        .fetch_all(connection)
        .await?;
        Ok(Self(types.into_iter().map(|oid| oid as u32).collect()))
    }

    /// Whether operators cannot compare values of this column.
    pub(crate) fn hide_operators_of(&self, column: &Column) -> bool {
        let shares_operators = column.element.is_some() || column.base.kind != 'b';
        shares_operators && self.0.contains(&column.base.oid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::BaseType;

    #[test]
    fn types_with_operators_of_their_own_are_not_concerned() {
        let of = |oid, kind, element: Option<BaseType>| Column {
            name: "c".into(),
            attnum: 1,
            declared: "t".into(),
            base: BaseType { oid, schema: "public".into(), name: "t".into(), kind },
            typmod: -1,
            element,
            not_null: true,
        };
        let casts = ImplicitCasts([20, 16400].into());
        assert!(casts.hide_operators_of(&of(16400, 'e', None)));
        assert!(!casts.hide_operators_of(&of(16401, 'e', None)));
        assert!(!casts.hide_operators_of(&of(20, 'b', None)));
        let element = of(23, 'b', None).base;
        assert!(casts.hide_operators_of(&of(16400, 'b', Some(element))));
    }
}
