//! Which rows pgoutput sends, and as which table's: a model of what it works out when it meets a
//! relation under the publications of a subscription (`get_rel_sync_entry`,
//! `pgoutput_row_filter_init` and `pgoutput_column_list_init` in
//! src/backend/replication/pgoutput/pgoutput.c). PostgreSQL 15 to 18 do the same. So does 14 since
//! 14.3, which has neither row filters nor column lists nor publications of schemas.
//!
//! - A publication publishes a relation if it has the relation itself or an ancestor of it. It
//!   publishes it as the topmost ancestor that it has, if it was made with
//!   `publish_via_partition_root`, else as the relation itself.
//! - The relation is sent as the topmost of these tables. The *operations* are those of all
//!   publications that publish the relation, whatever they publish it as.
//! - The *row filters* and *column lists* are those that the publications of the topmost table give
//!   that table. The filters of one operation are combined by `or`, from the publications that
//!   publish this operation; if none of the topmost table's does, the operation is not filtered.

use std::collections::{BTreeMap, BTreeSet};

use super::deviation::{names, operations};
use super::{Operations, PublishedTable};
use crate::model::TableName;

/// A publication.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) operations: Operations,
    /// `publish_via_partition_root`.
    pub(super) via_root: bool,
    /// `publish_generated_columns = stored`; PostgreSQL 18 and newer.
    pub(super) generated: bool,
}

/// A table that may be published: a partitioned one, or one whose changes are logged.
#[derive(Clone, Debug)]
pub(super) struct Publishable {
    pub(super) name: TableName,
    pub(super) partitioned: bool,
    /// Its parent and so on, up to the root; empty if it is no partition.
    pub(super) ancestors: Vec<u32>,
    /// Its columns that are not generated.
    pub(super) columns: BTreeSet<String>,
    /// Its stored generated columns.
    pub(super) generated: BTreeSet<String>,
    /// The publications that have it, by their place in [`Catalog::publications`]. One for all
    /// tables has every table, one of a schema every table in it.
    pub(super) members: BTreeMap<usize, Member>,
}

/// What a publication says of a table that it has.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    /// `None`: all rows.
    pub(super) filter: Option<String>,
    /// `None`: no list, so all columns that the publication publishes.
    pub(super) columns: Option<BTreeSet<String>>,
}

/// A server's tables, by oid, and the publications that a subscription names.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    pub(super) publications: Vec<Publication>,
    pub(super) relations: BTreeMap<u32, Publishable>,
}

/// What a subscription gets.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The tables as which rows are sent.
    pub(crate) tables: BTreeMap<TableName, PublishedTable>,
    /// Tables whose rows are sent as those of others: partitions as their root's, or a partitioned
    /// table as its partitions'.
    pub(super) sent_as: BTreeMap<TableName, BTreeSet<TableName>>,
    /// Partitions that some publication publishes as a lower table than the one that they are sent
    /// as, by that one.
    pub(super) raised: BTreeMap<TableName, Vec<TableName>>,
    /// Tables whose publications publish neither inserts nor updates nor deletes.
    pub(super) rowless: Vec<TableName>,
}

/// How the changes of one relation are sent.
#[derive(Clone, Debug)]
struct Sent {
    published_as: u32,
    operations: Operations,
    /// The publications that publish it as that table.
    by: Vec<usize>,
    /// Others publish it as a lower table.
    raised: bool,
}

/// The rows of one operation that the filters let through; `None` is all.
type Filters = Option<BTreeSet<String>>;

impl Catalog {
    /// What the subscription gets of each table.
    pub(super) fn published(&self) -> Published {
        let mut published = Published::default();
        let mut groups = BTreeMap::<u32, Vec<(u32, Sent)>>::new();
        for &oid in self.relations.keys() {
            if let Some(sent) = self.sent(oid) {
                groups.entry(sent.published_as).or_default().push((oid, sent));
            }
        }
        for (oid, group) in groups {
            let Some(table) = self.relations.get(&oid) else { continue };
            match self.table(oid, table, &group) {
                Some(of) => published.tables.insert(table.name.clone(), of),
                None => {
                    published.rowless.push(table.name.clone());
                    continue;
                }
            };
            for (relation, sent) in &group {
                self.note_sent_as(&mut published.sent_as, *relation, oid, sent);
                let relation = &self.relations[relation];
                if sent.raised && sent.operations.rows() && !relation.partitioned {
                    let raised = published.raised.entry(table.name.clone()).or_default();
                    raised.push(relation.name.clone());
                }
            }
        }
        published
    }

    /// How the changes of a relation are sent; `None` if no publication publishes it.
    fn sent(&self, oid: u32) -> Option<Sent> {
        let relation = &self.relations[&oid];
        let mut topmost = (0, oid);
        let mut sent = None::<Sent>;
        for (at, publication) in self.publications.iter().enumerate() {
            let has = |oid: &u32| {
                self.relations.get(oid).is_some_and(|known| known.members.contains_key(&at))
            };
            let ancestor = relation.ancestors.iter().rposition(has);
            let publishes = ancestor.is_some() || has(&oid);
            // The changes of a partitioned table are those of its partitions.
            if !publishes || relation.partitioned && !publication.via_root {
                continue;
            }
            let level = match ancestor.filter(|_| publication.via_root) {
                Some(ancestor) => (ancestor + 1, relation.ancestors[ancestor]),
                None => (0, oid),
            };
            let sent = sent.get_or_insert_with(|| Sent {
                published_as: oid,
                operations: Operations::NONE,
                by: Vec::new(),
                raised: false,
            });
            sent.operations = sent.operations.or(publication.operations);
            if level.0 > topmost.0 {
                topmost = level;
                sent.raised |= !sent.by.is_empty();
                sent.by.clear();
            }
            if level.0 == topmost.0 {
                sent.by.push(at);
            } else {
                sent.raised = true;
            }
            sent.published_as = topmost.1;
        }
        sent
    }

    /// A table with what is sent as it; `None` if that is never a row.
    fn table(
        &self,
        oid: u32,
        table: &Publishable,
        group: &[(u32, Sent)],
    ) -> Option<PublishedTable> {
        // Which publications publish a partitioned table's partitions as that table does not depend
        // on the partition; other publications may add operations for some of them.
        let (_, own) = group.iter().find(|(relation, _)| *relation == oid)?;
        let (by, common) = (&own.by, own.operations);
        let mut extended = BTreeMap::<Operations, Vec<u32>>::new();
        for (relation, sent) in group {
            if !self.relations[relation].partitioned
                && sent.operations.rows_only() != common.rows_only()
            {
                extended.entry(sent.operations).or_default().push(*relation);
            }
        }
        let filters = self.filters(oid, by);
        let whole: Vec<u32> = extended.values().flatten().copied().collect();
        let common_rows = common.rows().then(|| union(common, &filters));
        if common_rows.is_none() && whole.is_empty() {
            return None;
        }
        let named = |oids: &[u32]| -> Vec<TableName> {
            oids.iter().map(|oid| self.relations[oid].name.clone()).collect()
        };
        let columns: Vec<BTreeSet<String>> =
            by.iter().map(|&publication| self.columns(oid, publication)).collect();
        let inserting: Vec<u32> = extended
            .iter()
            .filter(|(operations, _)| operations.insert && !common.insert)
            .flat_map(|(_, oids)| oids.iter().copied())
            .collect();
        Some(PublishedTable {
            name: table.name.clone(),
            filter: sql(common_rows.as_ref(), &whole),
            rows: words(common_rows.as_ref(), &named(&whole)),
            inserted_rows: words(common.insert.then_some(&filters.insert), &named(&inserting)),
            operations: match common.rows() {
                true => common,
                false => extended.keys().fold(Operations::ALL, |all, &one| all.and(one)),
            },
            extended: named(&whole),
            partitions_alone: common_rows.is_none(),
            unpublished: false,
            column_lists_differ: columns.windows(2).any(|pair| pair[0] != pair[1]),
            filters_by_operation: by_operation(common, &filters, &extended, named),
            columns: Some(columns.into_iter().flatten().collect()),
        })
    }

    /// The filters of each operation that these publications give the table that they publish.
    fn filters(&self, oid: u32, by: &[usize]) -> ByOperation<Filters> {
        let of = |publishes: fn(Operations) -> bool| -> Filters {
            let publishing: Vec<usize> = by
                .iter()
                .copied()
                .filter(|&at| publishes(self.publications[at].operations))
                .collect();
            if publishing.is_empty() {
                return None;
            }
            // A partition that a publication has through an ancestor alone has no filter.
            publishing
                .iter()
                .map(|at| self.relations[&oid].members.get(at)?.filter.clone())
                .collect()
        };
        ByOperation { insert: of(|o| o.insert), update: of(|o| o.update), delete: of(|o| o.delete) }
    }

    /// The columns of a table that a publication publishes.
    fn columns(&self, oid: u32, publication: usize) -> BTreeSet<String> {
        let table = &self.relations[&oid];
        if let Some(list) = table.members.get(&publication).and_then(|m| m.columns.as_ref()) {
            return list.clone();
        }
        let generated = self.publications[publication].generated.then_some(&table.generated);
        table.columns.iter().chain(generated.into_iter().flatten()).cloned().collect()
    }

    /// Notes for a relation, and for its ancestors, as which other table its rows are sent.
    fn note_sent_as(
        &self,
        sent_as: &mut BTreeMap<TableName, BTreeSet<TableName>>,
        relation: u32,
        table: u32,
        sent: &Sent,
    ) {
        if !sent.operations.rows() {
            return;
        }
        let with_ancestors = self.relations[&relation].ancestors.iter().chain([&relation]);
        for other in with_ancestors.filter(|oid| **oid != table) {
            if let Some(other) = self.relations.get(other) {
                let tables = sent_as.entry(other.name.clone()).or_default();
                tables.insert(self.relations[&table].name.clone());
            }
        }
    }
}

/// Something of each operation that sends rows.
struct ByOperation<T> {
    insert: T,
    update: T,
    delete: T,
}

impl<T> ByOperation<T> {
    /// Of those operations among these.
    fn among(&self, operations: Operations) -> impl Iterator<Item = (Operations, &T)> {
        let none = Operations::NONE;
        [
            (Operations { insert: true, ..none }, operations.insert, &self.insert),
            (Operations { update: true, ..none }, operations.update, &self.update),
            (Operations { delete: true, ..none }, operations.delete, &self.delete),
        ]
        .into_iter()
        .filter_map(|(operation, among, of)| among.then_some((operation, of)))
    }
}

/// The rows that the filter of any of these operations lets through.
fn union(operations: Operations, filters: &ByOperation<Filters>) -> Filters {
    let filters: Option<Vec<&BTreeSet<String>>> =
        filters.among(operations).map(|(_, filters)| filters.as_ref()).collect();
    Some(filters?.into_iter().flatten().cloned().collect())
}

/// A condition for the rows that pass one of the filters or lie in one of these partitions; `None`
/// for all rows. Without filters, it is the partitions alone.
fn sql(filters: Option<&Filters>, whole: &[u32]) -> Option<String> {
    let mut conditions: Vec<String> = match filters {
        Some(filters) => filters.as_ref()?.iter().cloned().collect(),
        None => Vec::new(),
    };
    if !whole.is_empty() {
        let oids: Vec<String> = whole.iter().map(u32::to_string).collect();
        let oids = oids.join(",");
        conditions
            .push(format!("tableoid operator(pg_catalog.=) any ('{{{oids}}}'::pg_catalog.oid[])"));
    }
    Some(match &conditions[..] {
        [condition] => condition.clone(),
        conditions => {
            let conditions: Vec<String> =
                conditions.iter().map(|condition| format!("({condition})")).collect();
            conditions.join(" or ")
        }
    })
}

/// The same for people.
fn words(filters: Option<&Filters>, whole: &[TableName]) -> String {
    let mut words: Vec<String> = match filters {
        Some(None) => return "all rows".to_owned(),
        Some(Some(filters)) if filters.len() == 1 => filters.iter().cloned().collect(),
        Some(Some(filters)) => {
            let filters: Vec<String> = filters.iter().map(|filter| format!("({filter})")).collect();
            vec![filters.join(" or ")]
        }
        None => Vec::new(),
    };
    if !whole.is_empty() {
        words.push(format!("all rows of {}", names(whole)));
    }
    if words.is_empty() { "no rows".to_owned() } else { words.join(" and ") }
}

/// The rows of each operation, if not all operations have the same.
fn by_operation(
    common: Operations,
    filters: &ByOperation<Filters>,
    extended: &BTreeMap<Operations, Vec<u32>>,
    named: impl Fn(&[u32]) -> Vec<TableName>,
) -> Option<String> {
    let mut groups = Vec::<(Operations, &Filters)>::new();
    for (operation, filters) in filters.among(common) {
        match groups.iter_mut().find(|(_, known)| *known == filters) {
            Some((operations, _)) => *operations = operations.or(operation),
            None => groups.push((operation, filters)),
        }
    }
    let filtered = groups.iter().any(|(_, filters)| filters.is_some());
    if groups.len() < 2 && (extended.is_empty() || !filtered) {
        return None;
    }
    let mut words: Vec<String> = groups
        .into_iter()
        .map(|(of, filters)| format!("{}: {}", operations(&of, true), words(Some(filters), &[])))
        .collect();
    words.extend(extended.iter().map(|(of, partitions)| {
        let more = of.rows_only().without(common);
        format!("{} of {}: all rows", operations(&more, true), names(&named(partitions)))
    }));
    Some(words.join("; "))
}

#[cfg(test)]
mod tests;
