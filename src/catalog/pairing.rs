//! Base's and head's tables brought together: what is compared of each, and what is not.
//!
//! A table or column that base has under the same name is compared with that: downstream knows
//! both by their names. One that base has under another name only is found by its lineage: a
//! restore keeps the oid of a table and the number of a column, whatever they are renamed to.

use std::collections::{BTreeMap, BTreeSet};

use super::partition::{self, Partitions};
use super::relation::RelationColumn;
use super::{
    Column, Deviation, Key, Operations, PublishedTable, Relation, RelationKind, ReplicaIdentity,
    Table,
};
use crate::model::TableName;
use crate::postgres::{self, Literal};

/// A table as it will be compared, with what each server has of it.
#[derive(Clone, Debug)]
pub(crate) struct TablePair {
    pub(crate) table: Table,
    /// As head's publications have it.
    pub(crate) published: PublishedTable,
    pub(crate) head: Relation,
    /// `None`: the table came to be in the gap, all its rows are inserts.
    pub(crate) base: Option<Relation>,
    /// The compared columns as base has them, in the order of [`Table::columns`]; head's, if base
    /// does not have the table.
    pub(crate) base_columns: Vec<Column>,
    /// The rows that were published on base: an expression over base's columns.
    pub(crate) base_filter: Option<String>,
    /// Whether base has an index on the whole key.
    pub(crate) key_indexed_on_base: bool,
    /// Whether a relation that holds its rows on base has a line break in its name.
    pub(crate) base_name_breaks: bool,
    /// What an operator should know about this table.
    pub(crate) warnings: Vec<String>,
}

impl TablePair {
    /// Has old rows told as the table's partitions say, if it has some.
    pub(crate) fn tell_old_rows(&mut self, on_base: &Partitions, on_head: &Partitions) {
        let changed = partition::tell_old_rows(&mut self.table, on_base, on_head);
        self.warnings.extend(changed.iter().map(Deviation::to_string));
    }
}

/// Both servers' relations, and what is published of them.
#[derive(Debug, Default)]
pub(crate) struct Sides {
    /// The selected tables, as head's publications have them.
    pub(crate) published: BTreeMap<TableName, PublishedTable>,
    /// What was published on base; `None` if that cannot be said, and head's publications are
    /// taken for both.
    pub(crate) published_on_base: Option<BTreeMap<TableName, PublishedTable>>,
    pub(crate) head: BTreeMap<TableName, Relation>,
    /// By base's names.
    pub(crate) base: BTreeMap<TableName, Relation>,
    /// Partitions on base that are published on one server and a root of them on the other, each
    /// with that root.
    pub(crate) regrouped: BTreeMap<TableName, TableName>,
    /// Tables of head whose row filter base cannot decide.
    pub(crate) undecided: BTreeSet<TableName>,
    /// Whether oids and column numbers mean the same on both servers.
    pub(crate) one_lineage: bool,
}

impl Sides {
    /// The selected tables that head has, each with base's.
    pub(crate) fn pair(&self) -> Vec<TablePair> {
        let by_oid: BTreeMap<u32, &Relation> =
            self.base.values().map(|relation| (relation.oid, relation)).collect();
        self.published
            .values()
            .filter_map(|published| {
                let head = self.head.get(&published.name)?;
                let base = self
                    .base
                    .get(&head.name)
                    .or_else(|| by_oid.get(&head.oid).copied().filter(|_| self.one_lineage));
                let base = base.filter(|base| self.decides(base, &head.name));
                Some(self.pair_one(published.clone(), head.clone(), base))
            })
            .collect()
    }

    /// Whether base can say which rows of a table were published there: by head's filter, or by
    /// that of its own publications.
    fn decides(&self, base: &Relation, head: &TableName) -> bool {
        let on_base = self.published_on_base.as_ref();
        !self.undecided.contains(head)
            || on_base.is_some_and(|on_base| on_base.contains_key(&base.name))
    }

    fn pair_one(
        &self,
        mut published: PublishedTable,
        head: Relation,
        base: Option<&Relation>,
    ) -> TablePair {
        let mut found = self.table_drift(&head, base);
        // What base's publications have of it, where that can be said.
        let on_base = base
            .filter(|_| !published.unpublished)
            .and_then(|base| Some(self.published_on_base.as_ref()?.get(&base.name)));
        let mut base_filter = match on_base {
            Some(Some(on_base)) => {
                // A filter of inserts says which rows downstream has. One of updates or deletes
                // that came or went brings it none and takes none, nor does a partition.
                let same_rows = (published.inserted_rows == on_base.inserted_rows
                    || published.partitions_alone
                    || on_base.partitions_alone)
                    && !self.undecided.contains(&head.name);
                found.extend(publication_drift(&published, on_base, same_rows));
                match same_rows {
                    true => published.filter.clone(),
                    false => on_base.filter.clone(),
                }
            }
            Some(None) => {
                found
                    .extend(base.filter(|base| base.logged).map(|base| self.newly_published(base)));
                published.filter.clone()
            }
            None => published.filter.clone(),
        };
        let one_table = self.one_lineage && base.is_some_and(|base| base.oid == head.oid);
        if !head.unlogged_partitions.is_empty() {
            let names = head.unlogged_partitions.values().cloned().collect();
            found.push(Deviation::PartitionsUnlogged(names));
            let but = |filter: &Option<String>, by_oid| {
                Some(but_partitions(filter.as_deref(), &head.unlogged_partitions, by_oid))
            };
            base_filter = but(&base_filter, one_table);
            published.filter = but(&published.filter, true);
        }
        if published.unpublished {
            found.push(Deviation::Unpublished);
        }
        if published.operations != Operations::ALL {
            found.push(Deviation::PublishList {
                published: published.operations,
                extended: match published.partitions_alone {
                    true => Vec::new(),
                    false => published.extended.clone(),
                },
            });
        }
        if published.partitions_alone {
            found.push(Deviation::SomePartitions(published.extended.clone()));
        }
        if let Some(rows) = &published.filters_by_operation {
            found.push(Deviation::FiltersByOperation(rows.clone()));
        }
        if published.column_lists_differ {
            found.push(Deviation::ColumnListsDiffer);
        }
        let matched = match_columns(&head, base, one_table);
        if let Some(base) = base {
            found.extend(column_drift(&published, &matched, base));
        }
        if let Some(Some(on_base)) = on_base {
            found.extend(column_list_drift(&published, on_base, &matched));
        }
        let compared: Vec<&Matched<'_>> = matched
            .iter()
            .filter(|column| published_column(&published, column.head))
            .filter(|column| base.is_none() || column.base.is_some())
            .collect();
        let columns: Vec<Column> =
            compared.iter().map(|column| column.head.column.clone()).collect();
        let base_columns: Vec<Column> = compared
            .iter()
            .map(|column| column.base.unwrap_or(column.head).column.clone())
            .collect();
        let unpublished = key_of(&head)
            .iter()
            .filter(|name| {
                let mut columns = head.columns.iter().filter(|it| it.column.name == **name);
                columns.any(|column| !published_column(&published, column))
            })
            .cloned()
            .collect();
        let paired = Paired::by_key(&head, base, &columns, &base_columns, unpublished);
        found.extend(paired.deviation);
        // That of a partitioned table says nothing: its partitions' do.
        if let Some(base) = base
            && head.kind != RelationKind::Partitioned
            && base.replica_identity != head.replica_identity
        {
            let (from, to) = (base.replica_identity, head.replica_identity);
            found.push(Deviation::ReplicaIdentityChanged { from, to });
        }
        let table = Table {
            name: head.name.clone(),
            columns,
            key: paired.key,
            replica_identity: head.replica_identity,
            partitions: BTreeMap::new(),
        };
        TablePair {
            table,
            published,
            base: base.cloned(),
            head,
            base_columns,
            base_filter,
            key_indexed_on_base: paired.indexed_on_base,
            base_name_breaks: false,
            warnings: found.iter().map(Deviation::to_string).collect(),
        }
    }

    /// How a table comes to be published on head that was not on base.
    fn newly_published(&self, base: &Relation) -> Deviation {
        if let Some(root) = self.regrouped.get(&base.name) {
            Deviation::PublishedByPartition { root: root.clone() }
        } else if self.regrouped.values().any(|root| *root == base.name) {
            Deviation::PublishedAsItsRoot
        } else {
            Deviation::PublishedInTheGap
        }
    }

    fn table_drift(&self, head: &Relation, base: Option<&Relation>) -> Vec<Deviation> {
        let Some(base) = base else {
            return vec![match self.undecided.contains(&head.name) {
                true => Deviation::FilterNotOnBase,
                false => Deviation::TableAdded,
            }];
        };
        let mut found = Vec::new();
        if base.name != head.name {
            found.push(Deviation::TableRenamed { from: base.name.clone() });
        } else if self.one_lineage && base.oid != head.oid {
            found.push(Deviation::TableReplaced);
        }
        if !base.logged {
            found.push(Deviation::WasUnlogged);
        }
        let now_logged: Vec<TableName> = base
            .unlogged_partitions
            .iter()
            .filter(|(oid, _)| !head.unlogged_partitions.contains_key(oid))
            .map(|(_, name)| name.clone())
            .collect();
        if !now_logged.is_empty() {
            found.push(Deviation::PartitionsWereUnlogged(now_logged));
        }
        found
    }
}

/// A row filter that leaves out the rows of these partitions of head besides: by their oids where the
/// server has the same ones, else by their names.
fn but_partitions(
    filter: Option<&str>,
    partitions: &BTreeMap<u32, TableName>,
    by_oid: bool,
) -> String {
    let others: Vec<String> = partitions
        .iter()
        .map(|(oid, name)| match by_oid {
            true => format!("tableoid operator(pg_catalog.<>) '{oid}'::pg_catalog.oid"),
            false => format!(
                "tableoid is distinct from pg_catalog.to_regclass({})::pg_catalog.oid",
                Literal(&postgres::QualifiedName::from(name).to_string())
            ),
        })
        .collect();
    let others = others.join(" and ");
    filter.map_or(others.clone(), |filter| format!("({filter}) and {others}"))
}

/// A column of head with base's.
struct Matched<'a> {
    head: &'a RelationColumn,
    base: Option<&'a RelationColumn>,
    /// Both have one of this name, but not the same one.
    replaced: bool,
}

/// Each column of head with the one of base that it is compared with.
fn match_columns<'a>(
    head: &'a Relation,
    base: Option<&'a Relation>,
    one_table: bool,
) -> Vec<Matched<'a>> {
    let on_base = || base.into_iter().flat_map(|base| &base.columns);
    head.columns
        .iter()
        .map(|column| {
            let by_name = on_base().find(|other| other.column.name == column.column.name);
            let by_number =
                on_base().find(|other| one_table && other.column.attnum == column.column.attnum);
            let replaced = one_table
                && by_name.is_some_and(|other| other.column.attnum != column.column.attnum);
            Matched { head: column, base: by_name.or(by_number), replaced }
        })
        .collect()
}

fn published_column(published: &PublishedTable, column: &RelationColumn) -> bool {
    match &published.columns {
        Some(columns) => columns.contains(&column.column.name),
        None => !column.generated,
    }
}

/// What became of the published columns.
fn column_drift(
    published: &PublishedTable,
    matched: &[Matched<'_>],
    base: &Relation,
) -> Vec<Deviation> {
    let mut found = Vec::new();
    for Matched { head, base, replaced } in
        matched.iter().filter(|column| published_column(published, column.head))
    {
        let name = &head.column.name;
        let Some(base) = base else {
            found.push(Deviation::ColumnAdded(name.clone()));
            continue;
        };
        if *replaced {
            found.push(Deviation::ColumnReplaced(name.clone()));
        }
        if base.column.name != *name {
            let from = base.column.name.clone();
            found.push(Deviation::ColumnRenamed { from, to: name.clone() });
        }
        if base.column.declared != head.column.declared {
            found.push(Deviation::ColumnRetyped {
                column: name.clone(),
                from: base.column.declared.clone(),
                to: head.column.declared.clone(),
            });
        } else if base.parts != head.parts {
            let without = |some: &[String], others: &[String]| -> Vec<String> {
                some.iter().filter(|part| !others.contains(part)).cloned().collect()
            };
            found.push(Deviation::TypeChanged {
                column: name.clone(),
                gone: without(&base.parts, &head.parts),
                new: without(&head.parts, &base.parts),
            });
        }
    }
    let kept: BTreeSet<&str> =
        matched.iter().filter_map(|column| Some(column.base?.column.name.as_str())).collect();
    found.extend(
        base.columns
            .iter()
            .filter(|column| !kept.contains(column.column.name.as_str()))
            .map(|column| Deviation::ColumnDropped(column.column.name.clone())),
    );
    found
}

/// Whether the publications changed what they let through of the table.
fn publication_drift(
    head: &PublishedTable,
    base: &PublishedTable,
    same_rows: bool,
) -> Vec<Deviation> {
    let mut found = Vec::new();
    if head.operations != base.operations {
        let (from, to) = (base.operations, head.operations);
        found.push(Deviation::PublishListChanged { from, to });
    }
    if head.filter != base.filter {
        let (from, to) = (base.rows.clone(), head.rows.clone());
        found.push(match same_rows {
            true => Deviation::PublishedRowsChanged { from, to },
            false => Deviation::FilterChanged { from, to },
        });
    }
    found
}

/// Columns that both tables have and only one side's publications.
fn column_list_drift(
    published: &PublishedTable,
    on_base: &PublishedTable,
    matched: &[Matched<'_>],
) -> Vec<Deviation> {
    matched
        .iter()
        .filter_map(|column| {
            let before = published_column(on_base, column.base?);
            let name = column.head.column.name.clone();
            match (before, published_column(published, column.head)) {
                (false, true) => Some(Deviation::ColumnPublishedInTheGap(name)),
                (true, false) => Some(Deviation::ColumnNoLongerPublished(name)),
                _ => None,
            }
        })
        .collect()
}

/// How the rows of a table are paired.
struct Paired {
    key: Key,
    indexed_on_base: bool,
    deviation: Option<Deviation>,
}

impl Paired {
    /// By head's key, if it identifies a row on base as well. `unpublished`: the columns of that key
    /// that the stream does not have.
    fn by_key(
        head: &Relation,
        base: Option<&Relation>,
        columns: &[Column],
        base_columns: &[Column],
        unpublished: Vec<String>,
    ) -> Self {
        let key = key(head, columns);
        let Key::Columns(positions) = &key else {
            let deviation = match base {
                Some(base) if !key_of(base).is_empty() && key_of(base) != key_of(head) => {
                    Some(Deviation::KeyChanged {
                        from: key_of(base).to_vec(),
                        to: key_of(head).to_vec(),
                        pairs: false,
                    })
                }
                _ => (head.replica_identity != ReplicaIdentity::Full || !unpublished.is_empty())
                    .then_some(Deviation::NoKey { unpublished }),
            };
            return Self { key, indexed_on_base: false, deviation };
        };
        let Some(base) = base else {
            return Self { key, indexed_on_base: true, deviation: None };
        };
        let names: BTreeSet<&String> = positions.iter().map(|&at| &base_columns[at].name).collect();
        let unique = [&base.primary_key, &base.identity_index];
        if unique
            .iter()
            .any(|key| names.len() == key.len() && key.iter().all(|n| names.contains(n)))
        {
            return Self { key, indexed_on_base: true, deviation: None };
        }
        // Columns that hold a key of base's identify a row there, whatever else they hold.
        let pairs =
            unique.iter().any(|key| !key.is_empty() && key.iter().all(|name| names.contains(name)));
        let deviation = Some(Deviation::KeyChanged {
            from: key_of(base).to_vec(),
            to: key_of(head).to_vec(),
            pairs,
        });
        let key = if pairs { key } else { Key::WholeRow };
        Self { key, indexed_on_base: false, deviation }
    }
}

/// The columns that identify a row: the replica identity index if one was chosen, else the primary
/// key.
fn key_of(relation: &Relation) -> &[String] {
    match relation.replica_identity {
        ReplicaIdentity::Index if !relation.identity_index.is_empty() => &relation.identity_index,
        _ => &relation.primary_key,
    }
}

/// A key is of use only if all its columns are compared.
fn key(head: &Relation, columns: &[Column]) -> Key {
    let positions: Option<Vec<usize>> = key_of(head)
        .iter()
        .map(|name| columns.iter().position(|column| &column.name == name))
        .collect();
    match positions {
        Some(positions) if !positions.is_empty() => Key::Columns(positions),
        _ => Key::WholeRow,
    }
}
