//! Rows that are read from their places.

use super::tid::Tid;
use super::{Image, Source, copy};
use crate::error::Result;
use crate::postgres::{QualifiedName, Session};

/// The images of the tuples at these places, of those that are published; `None` if they are too
/// large to be held at once.
pub(super) async fn images(
    connection: &Session,
    source: &Source,
    relation: &QualifiedName,
    places: &[Tid],
) -> Result<Option<Vec<Image>>> {
    if places.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let query = format!("select {} {}", copy::row(source, "r"), rows_at(source, relation, places));
    copy::images(connection, &query, source.columns.len(), Some(places.len())).await
}

/// The end of a query of the published rows `r` at these places.
pub(super) fn rows_at(source: &Source, relation: &QualifiedName, places: &[Tid]) -> String {
    let filter = source.filter.as_deref().map(|filter| format!("and ({filter})"));
    let places: Vec<String> = places.iter().map(|place| format!("\"{place}\"")).collect();
    format!(
        "from only {relation} as r where r.ctid = any ('{{{places}}}'::tid[]) {filter}",
        places = places.join(","),
        filter = filter.unwrap_or_default(),
    )
}
