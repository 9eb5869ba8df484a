//! What the partitions of a table say of old rows. The WAL has of an old row what the partition's
//! own replica identity says, whatever the table's is that it is sent as: a partition does not
//! inherit the replica identity, and pgoutput sends what the WAL has.

use std::collections::BTreeMap;

use super::{Deviation, Key, ReplicaIdentity, Table};
use crate::error::Result;
use crate::model::TableName;
use crate::postgres::Session;

/// A partition that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    name: TableName,
    /// [`ReplicaIdentity::Nothing`] also where the index that it names is missing.
    identity: ReplicaIdentity,
}

/// The partitions of a table, by oid.
pub(crate) type Partitions = BTreeMap<u32, Partition>;

/// The partitions that hold the rows of each of these tables, by the tables' oids.
pub(crate) async fn partitions(
    connection: &Session,
    roots: &[u32],
) -> Result<BTreeMap<u32, Partitions>> {
    let mut found = BTreeMap::<u32, Partitions>::new();
    if roots.is_empty() {
        return Ok(found);
    }
    let roots: Vec<i64> = roots.iter().map(|&oid| i64::from(oid)).collect();
    let rows: Vec<(i64, i64, String, String, String)> = connection
        .query(
            r#"
            select wanted.oid, c.oid::int8, n.nspname::text, c.relname::text,
                   case when c.relreplident = 'f' then 'f'
                        when c.relreplident in ('d', 'i')
                         and exists (select from pg_index i
                                      where i.indrelid = c.oid and i.indisvalid and i.indimmediate
                                        and case c.relreplident when 'd' then i.indisprimary
                                                                else i.indisreplident end)
                        then c.relreplident::text
                        else 'n' end
              from (select distinct unnest($1::int8[])) as wanted (oid)
             cross join lateral pg_partition_tree(wanted.oid::oid) as t
              join pg_class c on c.oid = t.relid
              join pg_namespace n on n.oid = c.relnamespace
             where t.isleaf and c.relkind = 'r'
            "#,
            &[&roots],
        )
        .await?;
    for (root, oid, schema, name, identity) in rows {
        let name = TableName { schema, name };
        let identity = ReplicaIdentity::of_letter(&identity);
        found.entry(root as u32).or_default().insert(oid as u32, Partition { name, identity });
    }
    Ok(found)
}

/// Has a table's old rows told as its partitions on base say, or, where a partition is still one on
/// head, as that says. Yields the partitions that changed their mind in the gap.
pub(super) fn tell_old_rows(
    table: &mut Table,
    on_base: &Partitions,
    on_head: &Partitions,
) -> Vec<Deviation> {
    let now = |oid: &u32, partition: &Partition| {
        on_head.get(oid).map_or(partition.identity, |partition| partition.identity)
    };
    if let Some((oid, first)) = on_base.first_key_value()
        && matches!(table.key, Key::Columns(_))
    {
        table.replica_identity = now(oid, first);
        table.partitions = on_base
            .iter()
            .map(|(oid, partition)| (*oid, now(oid, partition)))
            .filter(|(_, identity)| !identity.tells_the_same_as(table.replica_identity))
            .collect();
    }
    let mut changed = BTreeMap::<(&str, &str), (ReplicaIdentity, ReplicaIdentity, Vec<_>)>::new();
    for (oid, partition) in on_base {
        let (from, to) = (partition.identity, now(oid, partition));
        if from != to {
            let entry = changed.entry((from.as_sql(), to.as_sql()));
            entry.or_insert((from, to, Vec::new())).2.push(on_head[oid].name.clone());
        }
    }
    changed
        .into_values()
        .map(|(from, to, of)| Deviation::PartitionsIdentityChanged(of, [from, to]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_rows_are_told_as_heads_partitions_say() {
        use ReplicaIdentity::{Default, Full, Index};
        let partitions = |of: &[(u32, ReplicaIdentity)]| -> Partitions {
            let name = |oid: u32| TableName { schema: "s".into(), name: format!("p{oid}") };
            of.iter()
                .map(|&(oid, identity)| (oid, Partition { name: name(oid), identity }))
                .collect()
        };
        let told = |on_base: &[(u32, ReplicaIdentity)], on_head: &[(u32, ReplicaIdentity)], key| {
            let name = TableName { schema: "s".into(), name: "t".into() };
            let mut table = Table {
                name,
                columns: Vec::new(),
                key,
                replica_identity: Full,
                partitions: BTreeMap::new(),
            };
            let changed = tell_old_rows(&mut table, &partitions(on_base), &partitions(on_head));
            (table.replica_identity, table.partitions, changed.len())
        };
        let key = || Key::Columns(vec![0]);
        let same = [(1, Default), (2, Index)];
        assert_eq!(told(&same, &same, key()), (Default, BTreeMap::new(), 0));
        let mixed = [(1, Default), (2, Full), (3, Default)];
        assert_eq!(told(&mixed, &mixed, key()), (Default, BTreeMap::from([(2, Full)]), 0));
        // What is no partition any more told of its rows as it last did.
        assert_eq!(told(&mixed, &[(1, Full)], key()), (Full, BTreeMap::from([(3, Default)]), 1));
        assert_eq!(told(&[], &mixed, key()), (Full, BTreeMap::new(), 0));
        assert_eq!(told(&mixed, &mixed, Key::WholeRow), (Full, BTreeMap::new(), 0));
    }
}
