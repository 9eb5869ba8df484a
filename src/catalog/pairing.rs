//! Base's and head's tables brought together: what is compared of each, and what is not.

use std::collections::BTreeMap;

use super::{Column, Key, PublishedTable, Relation, ReplicaIdentity, Table, TableName};

/// A table as it will be compared, with what each server has of it.
#[derive(Clone, Debug)]
pub(crate) struct TablePair {
    pub(crate) table: Table,
    pub(crate) published: PublishedTable,
    pub(crate) head: Relation,
    /// `None`: the table came to be in the gap, all its rows are inserts.
    pub(crate) base: Option<Relation>,
    /// What an operator should know about this table.
    pub(crate) warnings: Vec<String>,
}

impl TablePair {
    /// The compared columns as base has them; head's, if base does not have the table.
    pub(crate) fn base_columns(&self) -> Vec<Column> {
        let Some(base) = &self.base else { return self.table.columns.clone() };
        self.table
            .columns
            .iter()
            .map(|column| {
                let on_base = base.columns.iter().find(|other| other.column.name == column.name);
                on_base.map_or(column, |other| &other.column).clone()
            })
            .collect()
    }
}

/// Pairs one selected table. Columns are those that both sides have by name.
fn pair(published: PublishedTable, head: Relation, base: Option<Relation>) -> TablePair {
    let mut warnings = Vec::new();
    if published.unpublished {
        warnings.push("it is in no publication: compared whole".to_owned());
    }
    let wanted = |name: &str, generated: bool| match &published.columns {
        Some(columns) => columns.contains(name),
        None => !generated,
    };
    let mut columns = Vec::new();
    for candidate in &head.columns {
        let name = &candidate.column.name;
        if !wanted(name, candidate.generated) {
            continue;
        }
        let on_base = base.as_ref().map(|base| {
            base.columns.iter().find(|column| &column.column.name == name).map(|c| &c.column)
        });
        match on_base {
            Some(None) => {
                warnings.push(format!("column {name:?} is not on base: not compared, not sent"));
                continue;
            }
            Some(Some(on_base)) if on_base.declared != candidate.column.declared => {
                warnings.push(format!(
                    "column {name:?} was {} on base and is {} on head: compared as printed",
                    on_base.declared, candidate.column.declared
                ));
            }
            _ => {}
        }
        columns.push(candidate.column.clone());
    }
    for column in base.iter().flat_map(|base| &base.columns) {
        let name = &column.column.name;
        if !head.columns.iter().any(|head| &head.column.name == name) {
            warnings.push(format!("column {name:?} is not on head any more: not compared"));
        }
    }
    if base.is_none() {
        warnings.push("it is not on base: every row is an insert".to_owned());
    }
    if !published.operations.insert || !published.operations.update || !published.operations.delete
    {
        warnings.push(
            "its publication does not publish every operation: the events restore its state, so \
             they include operations that the stream leaves out"
                .to_owned(),
        );
    }
    let mut key = key(&head, &columns);
    if let (Key::Columns(positions), Some(base)) = (&key, &base) {
        let names: Vec<&String> = positions.iter().map(|&at| &columns[at].name).collect();
        let same =
            |key: &[String]| key.len() == names.len() && names.iter().all(|n| key.contains(n));
        if !same(&base.primary_key) && !same(&base.identity_index) {
            warnings.push(
                "its key is not a key on base: compared as a multiset, an update is a delete and \
                 an insert"
                    .to_owned(),
            );
            key = Key::WholeRow;
        }
    } else if key == Key::WholeRow && head.replica_identity != ReplicaIdentity::Full {
        warnings.push(
            "it has no key: compared as a multiset, an update is a delete and an insert".to_owned(),
        );
    }
    let table =
        Table { name: head.name.clone(), columns, key, replica_identity: head.replica_identity };
    TablePair { table, published, head, base, warnings }
}

/// The columns that identify a row: the replica identity index if one was chosen, else the primary
/// key. A key is of use only if all its columns are compared.
fn key(head: &Relation, columns: &[Column]) -> Key {
    let names = match head.replica_identity {
        ReplicaIdentity::Index if !head.identity_index.is_empty() => &head.identity_index,
        _ => &head.primary_key,
    };
    let positions: Option<Vec<usize>> =
        names.iter().map(|name| columns.iter().position(|column| &column.name == name)).collect();
    match positions {
        Some(positions) if !positions.is_empty() => Key::Columns(positions),
        _ => Key::WholeRow,
    }
}

/// Selected tables that head's publications have, with both servers' relations.
pub(crate) fn pair_all(
    published: BTreeMap<TableName, PublishedTable>,
    mut head: BTreeMap<TableName, Relation>,
    mut base: BTreeMap<TableName, Relation>,
) -> Vec<TablePair> {
    published
        .into_iter()
        .filter_map(|(name, published)| {
            Some(pair(published, head.remove(&name)?, base.remove(&name)))
        })
        .collect()
}
