//! A foreign table on head for each compared table of base.
//!
//! Every column is declared `text`, whatever its type: base prints the values, head passes them on
//! unread. That makes the images base's own, survives drifted types, and never meets "invalid
//! input value for enum". The price: no condition or order on these columns may reach base, where
//! they have other types; queries fence the foreign tables (see [`crate::diff`]).
//!
//! Two kinds of table cannot be read as they are and go through a helper view on base: a parent of
//! an inheritance tree, because postgres_fdw knows no `only`, and a table with a row filter, which
//! base must decide by its own types.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Link, MARKER, RELATIONS_PER_TRANSACTION, role};
use crate::catalog::{RelationKind, TablePair};
use crate::error::{Error, Result};
use crate::postgres::{Ident, Literal, QualifiedName, Session};

/// Bytes that one fetch of postgres_fdw may hold on head, which buffers it whole.
const FETCH_BYTES: u64 = 16 << 20;

/// Where head finds a table of base.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ForeignTable {
    /// The foreign table on head.
    pub(crate) relation: QualifiedName,
    /// What it reads on base: the table or its helper view.
    remote: QualifiedName,
    columns: Vec<ForeignColumn>,
    fetch_size: u64,
    /// The helper view's query, where one is needed.
    view: Option<String>,
    /// Whether base's EXPLAIN would print a name with a line break in it.
    #[serde(default)]
    name_breaks: bool,
}

/// A column under head's name and the one that the remote side has for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ForeignColumn {
    name: Ident,
    remote: Ident,
}

impl ForeignTable {
    /// The foreign table for a pair; `None` if base does not have the table.
    pub(crate) fn of(link: &Link, pair: &TablePair) -> Option<Self> {
        let base = pair.base.as_ref()?;
        let source = QualifiedName::from(&base.name);
        let columns: Vec<ForeignColumn> = pair
            .table
            .columns
            .iter()
            .zip(&pair.base_columns)
            .map(|(head, base)| ForeignColumn {
                name: Ident::new(&head.name),
                remote: Ident::new(&base.name),
            })
            .collect();
        // A table of base may be compared with two of head's: the one that has its name now, and
        // the one that it became.
        let local_name = format!("t{}", pair.head.oid);
        let needs_view = base.kind == RelationKind::Parent || pair.base_filter.is_some();
        let view = needs_view.then(|| {
            // The view has the table's own names, once each.
            let list: BTreeSet<String> =
                columns.iter().map(|column| format!("r.{}", column.remote)).collect();
            let list = Vec::from_iter(list);
            let only = if base.kind == RelationKind::Parent { "only " } else { "" };
            let filter = pair.base_filter.as_deref();
            format!(
                "select {} from {only}{source} as r{}",
                list.join(", "),
                filter.map(|filter| format!(" where {filter}")).unwrap_or_default()
            )
        });
        let relation = QualifiedName { schema: link.name.clone(), name: Ident::new(&local_name) };
        Some(Self {
            remote: if needs_view { relation.clone() } else { source },
            relation,
            columns,
            fetch_size: fetch_size(base.bytes, base.pages, base.rows),
            view,
            name_breaks: pair.base_name_breaks,
        })
    }

    fn definition(&self, link: &Link) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|ForeignColumn { name, remote }| {
                format!("{name} text options (column_name {})", Literal(remote.name()))
            })
            .collect();
        // postgres_fdw reads the first line of base's EXPLAIN, which such a name would break.
        let estimate = if self.name_breaks { ", use_remote_estimate 'false'" } else { "" };
        format!(
            "create foreign table if not exists {} ({}) server {} \
             options (schema_name {}, table_name {}, fetch_size '{}'{estimate})",
            self.relation,
            columns.join(", "),
            link.name,
            Literal(self.remote.schema.name()),
            Literal(self.remote.name.name()),
            self.fetch_size
        )
    }
}

/// Rows a fetch, so that a fetch of average rows stays within [`FETCH_BYTES`]: rows of 50 MB come
/// one by one. Values print longer than they are stored, and from a quarter of a page on a row's
/// values may be compressed to a hundredth.
fn fetch_size(bytes: u64, pages: u64, rows: Option<u64>) -> u64 {
    let stored = match rows {
        Some(rows) if rows > 0 => bytes / rows,
        // Never counted. Where TOAST is not the larger part, rows are short and pages full.
        _ if bytes <= 2 * 8192 * pages => 2047,
        // Else at least one row is in every page.
        _ => bytes / pages.max(1),
    };
    let printed = stored.max(1) * if stored < 2048 { 4 } else { 100 };
    (FETCH_BYTES / printed).clamp(1, 10_000)
}

/// Whether the role on base can be let read these tables. Changes nothing.
///
/// # Errors
/// Refused, naming those that this session's user may not hand on.
pub(crate) async fn check_grants(base: &Session, tables: &[ForeignTable]) -> Result<()> {
    // A helper view reads with the rights of its owner.
    let direct: Vec<QualifiedName> = tables
        .iter()
        .filter(|table| table.view.is_none())
        .map(|table| table.remote.clone())
        .collect();
    role::check_grants(base, &direct).await
}

/// Creates the foreign tables and helper views that are missing. May be repeated.
///
/// # Errors
/// Refused if base does not let the role read a table or hold a helper view.
pub(crate) async fn create_foreign_tables(
    link: &Link,
    base: &Session,
    head: &Session,
    tables: &[ForeignTable],
) -> Result<()> {
    let name = &link.name;
    let views: Vec<&ForeignTable> = tables.iter().filter(|table| table.view.is_some()).collect();
    if !views.is_empty() {
        let comment = format!("{MARKER} {}; `deltacompare cleanup` drops it", link.recovery);
        let refused = |error: Error| {
            Error::refused(format!(
                "base does not let this role hold helper views (for row filters and inheritance \
                 parents): {error}; grant it CREATE on the database"
            ))
            .because(error)
        };
        base.batch_execute(&format!(
            "create schema if not exists {name}; comment on schema {name} is {};
             grant usage on schema {name} to {name}",
            Literal(&comment)
        ))
        .await
        .map_err(refused)?;
        let views: Vec<String> = views
            .iter()
            .filter_map(|table| Some((&table.remote, table.view.as_ref()?)))
            .map(|(view, query)| {
                format!(
                    "create or replace view {view} as {query}; grant select on {view} to {name}"
                )
            })
            .collect();
        for batch in views.chunks(RELATIONS_PER_TRANSACTION) {
            base.batch_execute(&batch.join("; ")).await.map_err(refused)?;
        }
    }
    let direct: Vec<QualifiedName> = tables
        .iter()
        .filter(|table| table.view.is_none())
        .map(|table| table.remote.clone())
        .collect();
    role::grant(base, name, &direct).await?;
    for batch in tables.chunks(RELATIONS_PER_TRANSACTION) {
        let definitions: Vec<String> = batch.iter().map(|table| table.definition(link)).collect();
        head.batch_execute(&definitions.join("; ")).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_stays_small_however_wide_the_rows() {
        assert_eq!(fetch_size(814 << 20, 100_000, Some(5_000_000)), 10_000);
        assert_eq!(fetch_size(50_000_000 * 20, 1, Some(20)), 1);
        // Compressed to a hundredth, counted or not.
        assert_eq!(fetch_size(500_000 * 20, 1, Some(20)), 1);
        assert_eq!(fetch_size(500_000 * 20, 1, None), 1);
        assert_eq!(fetch_size(50_000 * 20, 1, Some(20)), 3);
        // Ordinary rows that were never counted, and none at all.
        assert_eq!(fetch_size(8200 * 1000, 1000, None), 2049);
        assert_eq!(fetch_size(0, 0, None), 2049);
        assert_eq!(fetch_size(8192, 1, Some(0)), 2049);
    }
}
