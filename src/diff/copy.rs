//! Rows read by COPY.
//!
//! Its text format calls each type's output function and nothing else, which makes it the cheapest
//! way to have images: half the time of a `text[]`, on the servers and here.
//!
//! It takes no parameters, so values are literals in the query: see [`super::print::literal`].

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::{Image, Source};
use crate::error::Result;
use crate::postgres::{Ident, Session};

/// Bytes of images of one query that are held at once. Statistics say how many rows these are, and
/// may be wrong a thousandfold.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// The images of the rows that a query yields, of so many columns; `None` if they are too large to
/// be held at once. One row never is, if the query is known to yield no more, or does not.
pub(super) async fn images(
    connection: &Session,
    query: &str,
    columns: usize,
    at_most: Option<usize>,
) -> Result<Option<Vec<Image>>> {
    let image = |line: Bytes| Image::from_copied(&line, columns);
    collect(connection, query, image, Image::bytes, at_most).await
}

/// The same rows as COPY writes them: equal lines are equal images.
pub(super) async fn lines(connection: &Session, query: &str) -> Result<Option<Vec<Bytes>>> {
    collect(connection, query, Ok, Bytes::len, None).await
}

async fn collect<T>(
    connection: &Session,
    query: &str,
    read: impl Fn(Bytes) -> Result<T>,
    bytes_of: impl Fn(&T) -> usize,
    at_most: Option<usize>,
) -> Result<Option<Vec<T>>> {
    let mut lines = connection.copy_out(&format!("copy ({query}) to stdout")).await?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    while let Some(line) = lines.try_next().await? {
        let is_not_alone = !rows.is_empty() || at_most.is_some_and(|rows| rows > 1);
        if bytes + line.len() > MOST_BYTES && is_not_alone {
            // The driver receives the next row into the memory of those before, once they are gone.
            drop((rows, line));
            // The session is of use only once the server has sent everything.
            while lines.try_next().await?.is_some() {}
            return Ok(None);
        }
        let row = read(line)?;
        bytes += bytes_of(&row);
        rows.push(row);
    }
    Ok(Some(rows))
}

/// Some columns of a table as items of a select list, to be printed by COPY.
pub(super) fn columns(source: &Source, at: impl IntoIterator<Item = usize>, alias: &str) -> String {
    let names: Vec<String> = at
        .into_iter()
        .map(|at| format!("{alias}.{}", Ident::new(&source.columns[at].name)))
        .collect();
    names.join(", ")
}

/// All compared columns.
pub(super) fn row(source: &Source, alias: &str) -> String {
    columns(source, 0..source.columns.len(), alias)
}
