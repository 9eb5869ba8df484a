//! The way through a key range, a few thousand rows at a time.

use super::buckets::Buckets;
use super::{BUCKETS, KeyRange};
use crate::catalog::Key;
use crate::diff::{Image, Source, Tables, print};
use crate::error::{Error, Result};
use crate::postgres::{Ident, Row, Session};

/// Keys from one bound (inclusive) to another (exclusive), each column as it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) from: Option<Vec<String>>,
    pub(super) to: Option<Vec<String>>,
}

impl Bounds {
    /// The condition on a row. Bounds are literals of the columns' types.
    pub(super) fn condition(&self, source: &Source, key: &[usize], alias: &str) -> String {
        let from = self.from.iter().map(|bound| (">=", bound));
        let to = self.to.iter().map(|bound| ("<", bound));
        compared(source, key, alias, from.chain(to))
    }

    /// Whether a row's key lies behind the first bound; true if there is none.
    fn is_behind(&self, source: &Source, key: &[usize], alias: &str) -> String {
        // Of a bound of the first columns only, keys that begin with it lie behind it too.
        let operator = |bound: &Vec<String>| if bound.len() < key.len() { ">=" } else { ">" };
        let from = self.from.iter().map(|bound| (operator(bound), bound));
        compared(source, key, alias, from)
    }
}

/// The condition that a row's key compares so with these bounds.
fn compared<'a>(
    source: &Source,
    key: &[usize],
    alias: &str,
    bounds: impl Iterator<Item = (&'static str, &'a Vec<String>)>,
) -> String {
    let conditions: Vec<String> = bounds
        .map(|(operator, bound)| {
            // A bound may name the first columns only.
            let (columns, values): (Vec<String>, Vec<String>) = key
                .iter()
                .zip(bound)
                .map(|(&at, value)| {
                    let column = &source.columns[at];
                    let name = Ident::new(&column.name);
                    let value = print::literal(column, Some(value));
                    (format!("{alias}.{name}{}", column.base_cast()), value)
                })
                .unzip();
            // Types whose order is known are built in.
            format!(
                "({}) operator(pg_catalog.{operator}) ({})",
                columns.join(", "),
                values.join(", ")
            )
        })
        .collect();
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") }
}

/// Steps through a key range.
pub(super) struct KeyScanner<'a> {
    tables: &'a Tables,
    key: &'a [usize],
    /// Where the next step begins; `None` once the end was reached.
    next: Option<Option<Vec<String>>>,
    to: &'a Option<Vec<String>>,
    /// Rows that a step should have.
    rows: u32,
    /// For a key of one integer: how far a step goes, and where the last key is.
    integers: Option<Integers>,
    /// Base has more rows than head where the walk is: a step ends where either has enough.
    base_is_fuller: bool,
}

/// Integer keys are walked by arithmetic: no query is needed to find the next bound, and the width
/// of a step follows the density of the keys.
struct Integers {
    width: i128,
    last: i128,
    /// Buckets of a step at most. Each is looked for in every partition whose keys do not tell that
    /// it is elsewhere.
    buckets: u32,
}

impl<'a> KeyScanner<'a> {
    pub(super) async fn new(
        base: &Session,
        head: &Session,
        tables: &'a Tables,
        key: &'a [usize],
        mut from: Option<Vec<String>>,
        range: &'a KeyRange,
    ) -> Result<Self> {
        let base_source = tables.base.as_ref().unwrap_or(&tables.head);
        let mut integers = None;
        if let [at] = key
            && [20, 21, 23].contains(&tables.head.columns[*at].base.oid)
            && [20, 21, 23].contains(&base_source.columns[*at].base.oid)
        {
            let (on_base, on_head) =
                tokio::try_join!(ends(base, base_source, *at), ends(head, &tables.head, *at),)?;
            let ends = |a: Ends, b: Ends| Ends {
                first: a.first.min(b.first),
                last: a.last.max(b.last),
                partitions: a.partitions.max(b.partitions),
            };
            if let Some(ends) = on_base.into_iter().chain(on_head).reduce(ends) {
                integers = Some(Integers {
                    // A dense key at first; `passed` widens the steps for one with gaps.
                    width: i128::from(range.rows),
                    last: i128::from(ends.last),
                    buckets: BUCKETS / ends.partitions.max(1),
                });
                from = from.or_else(|| Some(vec![ends.first.to_string()]));
            }
        }
        Ok(Self {
            tables,
            key,
            next: Some(from),
            to: &range.to,
            rows: range.rows,
            integers,
            base_is_fuller: false,
        })
    }

    /// The bounds of the next step; `None` at the end.
    pub(super) async fn next(&mut self, base: &Session, head: &Session) -> Result<Option<Bounds>> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let found = match (&self.integers, &from) {
            (Some(integers), Some(from)) => integers.next(&from[0]),
            _ => {
                let mut bounds = Bounds { from: from.clone(), to: self.to.clone() };
                let found = self.look_for_next(head, &self.tables.head, &bounds).await?;
                let nearer = if self.base_is_fuller {
                    bounds.to = found.clone().or(bounds.to);
                    let source = self.tables.base.as_ref().unwrap_or(&self.tables.head);
                    self.look_for_next(base, source, &bounds).await?
                } else {
                    None
                };
                self.base_is_fuller = nearer.is_some();
                nearer.or(found)
            }
        };
        let (to, end) = match (found, self.to) {
            (Some(found), Some(to)) if self.integers.is_some() && number(&found) >= number(to) => {
                (Some(to.clone()), true)
            }
            (Some(found), _) => (Some(found), false),
            (None, to) => (to.clone(), true),
        };
        if !end {
            self.next = Some(to.clone());
        }
        Ok(Some(Bounds { from, to }))
    }

    /// How the keys within these bounds are dealt into buckets.
    pub(super) fn buckets(&self, bounds: &Bounds) -> Buckets {
        let Some(integers) = &self.integers else { return Buckets::Hashed };
        let end = match &bounds.to {
            Some(to) => number(to).map(|to| to - 1),
            None => Some(integers.last),
        };
        match (bounds.from.as_deref().and_then(number), end) {
            (Some(first), Some(last)) => Buckets::of_integers(first, last, integers.buckets),
            _ => Buckets::Hashed,
        }
    }

    /// Goes on where these bounds end, which may be before the end of the step they were.
    pub(super) fn go_on_behind(&mut self, bounds: &Bounds) {
        self.next = (bounds.to != *self.to).then(|| bounds.to.clone());
    }

    /// Says that a step had too many rows, on base if `on_base`, and was cut to these bounds: the
    /// next ones begin as narrow.
    pub(super) fn cut(&mut self, bounds: &Bounds, on_base: bool) {
        self.base_is_fuller = on_base;
        let number = |key: &Option<Vec<String>>| key.as_deref().and_then(number);
        if let (Some(integers), Some(from), Some(to)) =
            (&mut self.integers, number(&bounds.from), number(&bounds.to))
        {
            integers.width = (to - from).max(1);
        }
    }

    /// Rows of either side in a step at most, if its rows are to be held.
    pub(super) fn most_rows(&self) -> u64 {
        4 * u64::from(self.rows)
    }

    /// Says that the rows of a step were too large to be held: this and later steps have fewer.
    pub(super) fn shrink(&mut self) {
        self.rows = (self.rows / 8).max(1);
    }

    /// Says how many rows the last step had, on the side with more.
    pub(super) fn passed(&mut self, rows: u64) {
        if let Some(integers) = &mut self.integers {
            let factor_of_16 = match i128::from(rows) {
                0 => 64 * 16,
                rows => (16 * i128::from(self.rows) / rows).clamp(4, 64 * 16),
            };
            integers.width = (integers.width * factor_of_16 / 16).clamp(1, i128::from(u64::MAX));
        }
    }

    /// The key some rows further on within these bounds, by walking a side's index; `None` if there
    /// are not so many.
    ///
    /// # Errors
    /// That key does not lie behind the first bound: the index is out of order, and a walk in it
    /// might never end.
    pub(super) async fn look_for_next(
        &self,
        connection: &Session,
        source: &Source,
        bounds: &Bounds,
    ) -> Result<Option<Vec<String>>> {
        let order: Vec<String> = self
            .key
            .iter()
            .map(|&at| format!("r.{}", Ident::new(&source.columns[at].name)))
            .collect();
        let sql = format!(
            "select {key}, {further} from {rows} where {condition} order by {order} offset {offset} limit 1",
            further = bounds.is_behind(source, self.key, "r"),
            key = print::key(&Key::Columns(self.key.to_vec()), source, "r"),
            rows = source.rows("r"),
            condition = bounds.condition(source, self.key, "r"),
            order = order.join(", "),
            offset = self.rows,
        );
        let row = connection.query_opt::<Row>(&sql, &[]).await?;
        row.map(|row| {
            if !row.try_get::<_, bool>(1)? {
                return Err(Error::item(format!(
                    "the walk through {} in the order of its key does not get on: the index on its \
                     key is out of order; recover the table with --strategy full, and reindex it on \
                     production",
                    self.tables.table.name
                )));
            }
            let image = Image::read_columns(&row, 0, self.key.len())?;
            Ok(image.iter().flatten().map(str::to_owned).collect())
        })
        .transpose()
    }
}

impl Integers {
    fn next(&self, from: &str) -> Option<Vec<String>> {
        let next = from.parse::<i128>().ok()? + self.width;
        (next <= self.last).then(|| vec![next.to_string()])
    }
}

fn number(key: &[String]) -> Option<i128> {
    key.first().and_then(|key| key.parse().ok())
}

/// The first and the last key of a side, and how many relations hold its rows.
struct Ends {
    first: i64,
    last: i64,
    partitions: u32,
}

/// From the ends of the key's index; `None` if there are no rows.
async fn ends(connection: &Session, source: &Source, at: usize) -> Result<Option<Ends>> {
    let column = Ident::new(&source.columns[at].name);
    let row = connection
        .query_one::<Row>(
            &format!(
                "select min(r.{column})::int8, max(r.{column})::int8,
                (select count(*) from pg_partition_tree($1::text::regclass) as t where t.isleaf)
           from {}",
                source.rows("r")
            ),
            &[&source.relation.to_string()],
        )
        .await?;
    let (first, last): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let partitions: i64 = row.try_get(2)?;
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    Ok(first.zip(last).map(|(first, last)| Ends { first, last, partitions }))
}
