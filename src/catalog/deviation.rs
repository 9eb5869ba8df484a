//! What differs between base and head, or between a table's state and what a stream can say of it.
//! Each has a name that stays the same, and a sentence for the operator; `docs/drift.md` has all.

use std::fmt;

use super::{Operations, ReplicaIdentity};
use crate::model::TableName;

/// One thing about a table that its events alone do not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deviation {
    TableAdded,
    TableRenamed {
        from: TableName,
    },
    TableReplaced,
    WasUnlogged,
    PartitionsUnlogged(Vec<TableName>),
    PartitionsWereUnlogged(Vec<TableName>),
    PartitionsAttached(Vec<TableName>),
    PartitionsDetached(Vec<TableName>),
    PartitionsDropped(Vec<TableName>),
    Unpublished,
    PublishedInTheGap,
    FilterNotOnBase,
    PublishedAsItsRoot,
    PublishedByPartition {
        root: TableName,
    },
    PublishList {
        published: Operations,
        extended: Vec<TableName>,
    },
    PublishListChanged {
        from: Operations,
        to: Operations,
    },
    SomePartitions(Vec<TableName>),
    FiltersByOperation(String),
    FilterChanged {
        from: String,
        to: String,
    },
    PublishedRowsChanged {
        from: String,
        to: String,
    },
    ColumnListsDiffer,
    ColumnPublishedInTheGap(String),
    ColumnNoLongerPublished(String),
    ColumnAdded(String),
    ColumnDropped(String),
    ColumnRenamed {
        from: String,
        to: String,
    },
    ColumnReplaced(String),
    ColumnRetyped {
        column: String,
        from: String,
        to: String,
    },
    TypeChanged {
        column: String,
        gone: Vec<String>,
        new: Vec<String>,
    },
    KeyChanged {
        from: Vec<String>,
        to: Vec<String>,
        pairs: bool,
    },
    /// With the columns of its key that are not published.
    NoKey {
        unpublished: Vec<String>,
    },
    ReplicaIdentityChanged {
        from: ReplicaIdentity,
        to: ReplicaIdentity,
    },
    PartitionsIdentityChanged(Vec<TableName>, [ReplicaIdentity; 2]),
}

impl Deviation {
    /// Its name in plans, reports and documentation.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::TableAdded => "table added",
            Self::TableRenamed { .. } => "table renamed",
            Self::TableReplaced => "table replaced",
            Self::PartitionsUnlogged(_) => "partition unlogged",
            Self::WasUnlogged | Self::PartitionsWereUnlogged(_) => "was unlogged",
            Self::PartitionsAttached(_) => "partition attached",
            Self::PartitionsDetached(_) => "partition detached",
            Self::PartitionsDropped(_) => "partition dropped",
            Self::Unpublished => "unpublished",
            Self::PublishedInTheGap => "published in the gap",
            Self::FilterNotOnBase => "filter not on base",
            Self::PublishedAsItsRoot => "published as its root",
            Self::PublishedByPartition { .. } => "published by partition",
            Self::PublishList { .. } => "publish list",
            Self::PublishListChanged { .. } => "publish list changed",
            Self::SomePartitions(_) => "some partitions",
            Self::FiltersByOperation(_) => "filters by operation",
            Self::FilterChanged { .. } => "row filter changed",
            Self::PublishedRowsChanged { .. } => "published rows changed",
            Self::ColumnListsDiffer => "column lists differ",
            Self::ColumnPublishedInTheGap(_) => "column published in the gap",
            Self::ColumnNoLongerPublished(_) => "column no longer published",
            Self::ColumnAdded(_) => "column added",
            Self::ColumnDropped(_) => "column dropped",
            Self::ColumnRenamed { .. } => "column renamed",
            Self::ColumnReplaced(_) => "column replaced",
            Self::ColumnRetyped { .. } => "column retyped",
            Self::TypeChanged { .. } => "type changed",
            Self::KeyChanged { .. } => "key changed",
            Self::NoKey { .. } => "no key",
            Self::ReplicaIdentityChanged { .. } | Self::PartitionsIdentityChanged(..) => {
                "replica identity changed"
            }
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Self::TableAdded => f.write_str("it is not on base: every row is an insert"),
            Self::TableRenamed { from } => {
                write!(f, "it was {from} on base: compared with that, events carry the new name")
            }
            Self::TableReplaced => f.write_str(
                "the table of this name on base is another one: columns are matched by name, and \
                 what both have of a row is compared",
            ),
            Self::WasUnlogged => f.write_str(
                "it was unlogged on base, so a restore has none of its rows: every row is an \
                 insert, which the stream would not have sent",
            ),
            Self::PartitionsUnlogged(partitions) => write!(
                f,
                "{} is unlogged on head: the stream sends none of its changes, and a restore has \
                 none of its rows, so it is not compared; copy it downstream from production",
                names(partitions)
            ),
            Self::PartitionsWereUnlogged(partitions) => write!(
                f,
                "{} was unlogged on base, so a restore has none of its rows: every row is an \
                 insert, which the stream would not have sent",
                names(partitions)
            ),
            Self::PartitionsAttached(partitions) => write!(
                f,
                "{} became part of it in the gap: the rows are inserts, which the stream does not \
                 send",
                names(partitions)
            ),
            Self::PartitionsDetached(partitions) => write!(
                f,
                "{} is no part of it any more: the rows are deletes, which the stream does not \
                 send",
                names(partitions)
            ),
            Self::PartitionsDropped(partitions) => write!(
                f,
                "{} was dropped in the gap: the rows are deletes, which the stream does not send",
                names(partitions)
            ),
            Self::Unpublished => f.write_str("it is in no publication: compared whole"),
            Self::PublishedInTheGap => f.write_str(
                "no publication had it on base: what changed since then is sent; older rows are \
                 not, so load it downstream as any newly published table",
            ),
            Self::FilterNotOnBase => f.write_str(
                "no publication had it on base, which cannot decide its row filter (a column or a \
                 type is another there): every row that passes is an insert",
            ),
            Self::PublishedAsItsRoot => f.write_str(
                "on base its partitions were published one by one: what changed since then is \
                 sent as this table's, which the stream does only since the publication changed",
            ),
            Self::PublishedByPartition { root } => write!(
                f,
                "on base it was published as a part of {root}: what changed since then is sent as \
                 this table's, which the stream does only since the publication changed"
            ),
            Self::PublishList { published, extended } => {
                write!(f, "its publication leaves out {}", operations(published, false))?;
                if !extended.is_empty() {
                    write!(f, ", of all partitions but {}", names(extended))?;
                }
                f.write_str(
                    ": the events restore its state all the same, with operations that the stream \
                     does not send",
                )
            }
            Self::PublishListChanged { from, to } => write!(
                f,
                "its publication had {} on base and has {} on head: the events restore the state",
                operations(from, true),
                operations(to, true)
            ),
            Self::SomePartitions(partitions) => write!(
                f,
                "the stream sends rows of {} as its rows, and none of its other partitions: only \
                 these are compared",
                names(partitions)
            ),
            Self::FiltersByOperation(rows) => write!(
                f,
                "{rows}: rows that any operation lets through are compared, and sent with all \
                 operations, which the stream does not do"
            ),
            Self::FilterChanged { from, to } => write!(
                f,
                "{from} on base, {to} on head: rows that only head's lets through are inserts, \
                 rows that only base's did are deletes, which the stream does not send",
            ),
            Self::PublishedRowsChanged { from, to } => write!(
                f,
                "{from} on base, {to} on head, by filters of updates or deletes, or by partitions: \
                 what changed of the rows that head's publications let through is sent",
            ),
            Self::ColumnListsDiffer => f.write_str(
                "its publications have different columns, which one slot cannot decode: columns of \
                 any are compared; name the slot's own with --publication",
            ),
            Self::ColumnPublishedInTheGap(column) => write!(
                f,
                "{column:?} was not published on base: rows whose value did not change are not \
                 sent, so load it downstream"
            ),
            Self::ColumnNoLongerPublished(column) => {
                write!(f, "{column:?} was published on base: not compared, not sent")
            }
            Self::ColumnAdded(column) => write!(
                f,
                "{column:?} is not on base: not compared, not sent; fill it downstream from head"
            ),
            Self::ColumnDropped(column) => {
                write!(f, "{column:?} is not on head any more: not compared, not sent")
            }
            Self::ColumnRenamed { from, to } => write!(
                f,
                "{from:?} on base is {to:?} on head: compared with each other, events carry the \
                 new name"
            ),
            Self::ColumnReplaced(column) => write!(
                f,
                "{column:?} is another column than the one of that name on base: compared by name, \
                 as downstream knows it"
            ),
            Self::ColumnRetyped { column, from, to } => {
                write!(f, "{column:?} was {from} on base and is {to} on head: compared as printed")
            }
            Self::TypeChanged { column, gone, new } => {
                write!(f, "the type of {column:?} ")?;
                match (&gone[..], &new[..]) {
                    ([], []) => f.write_str("has its labels or attributes in another order")?,
                    (gone, []) => write!(f, "lost {}", list(gone))?,
                    ([], new) => write!(f, "gained {}", list(new))?,
                    (gone, new) => write!(f, "lost {} and gained {}", list(gone), list(new))?,
                }
                f.write_str(": compared as printed")
            }
            Self::KeyChanged { from, to, pairs: true } => write!(
                f,
                "({}) on base, ({}) on head: rows are paired by the latter, which is unique on \
                 both",
                from.join(", "),
                to.join(", ")
            ),
            Self::KeyChanged { from, to, pairs: false } => write!(
                f,
                "({}) on base, ({}) on head, which need not be unique on base: compared as a \
                 multiset, an update is a delete and an insert",
                from.join(", "),
                to.join(", ")
            ),
            Self::NoKey { unpublished } => {
                if !unpublished.is_empty() {
                    write!(
                        f,
                        "it has one, but the stream does not have {} of it (a generated column, or \
                         one that a column list leaves out), which pairs no rows: ",
                        list(
                            &unpublished.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>()
                        )
                    )?;
                }
                f.write_str("compared as a multiset: an update is a delete and an insert")
            }
            Self::ReplicaIdentityChanged { from, to } => write!(
                f,
                "{} on base, {} on head: events say of old rows what the latter would",
                from.as_sql(),
                to.as_sql()
            ),
            Self::PartitionsIdentityChanged(partitions, [from, to]) => write!(
                f,
                "of {}: {} on base, {} on head: events say of old rows what the latter would",
                names(partitions),
                from.as_sql(),
                to.as_sql()
            ),
        }
    }
}

/// The operations that are published, or those that are not, as words.
pub(super) fn operations(operations: &Operations, published: bool) -> String {
    let Operations { insert, update, delete, truncate } = *operations;
    let chosen: Vec<&str> =
        [("inserts", insert), ("updates", update), ("deletes", delete), ("truncates", truncate)]
            .into_iter()
            .filter(|&(_, has)| has == published)
            .map(|(name, _)| name)
            .collect();
    if chosen.is_empty() { "nothing".to_owned() } else { chosen.join(", ") }
}

/// Names of tables in a sentence of bounded length.
pub(crate) fn names(tables: &[TableName]) -> String {
    list(tables)
}

fn list(names: &[impl fmt::Display]) -> String {
    const NAMED: usize = 10;
    let named: Vec<String> = names.iter().take(NAMED).map(ToString::to_string).collect();
    match names.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_one_short_sentence() {
        let table = |n: usize| TableName { schema: "s".into(), name: format!("t{n}") };
        let tables: Vec<TableName> = (0..500).map(table).collect();
        assert_eq!(names(&tables[..2]), "s.t0, s.t1");
        assert!(names(&tables).ends_with("s.t9 and 490 more"));
    }

    #[test]
    fn a_publish_list_names_what_it_leaves_out() {
        let list = Operations { insert: true, update: true, delete: false, truncate: false };
        let sentence = Deviation::PublishList { published: list, extended: Vec::new() }.to_string();
        assert!(sentence.starts_with("publish list: "), "{sentence}");
        assert!(sentence.contains("leaves out deletes, truncates:"), "{sentence}");
    }
}
