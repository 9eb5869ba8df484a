//! Whether a table's row versions can be compared instead of its rows: the conditions of the
//! `row-versions` strategy that catalogs can tell.

use std::collections::BTreeMap;

use super::TablePair;
use crate::error::Result;
use crate::model::TableName;
use crate::postgres::{Session, from_row};

/// A relation that holds rows: a plain table, or a leaf of a partitioned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    pub(crate) filenode: u32,
    database: u32,
    access_method: String,
    pub(crate) blocks: u32,
    /// It is a foreign table.
    pub(crate) foreign: bool,
    /// Each column's place, type and what its type means, all the way down, as text; null where
    /// what it prints depends on more than the stored bytes.
    columns: BTreeMap<String, Option<String>>,
}

/// One relation with its names on both servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SameStorage {
    pub(crate) oid: u32,
    pub(crate) filenode: u32,
    pub(crate) head: TableName,
    pub(crate) base: TableName,
    /// The larger side's size.
    pub(crate) blocks: u32,
}

struct StorageRow {
    root: i64,
    oid: i64,
    schema: String,
    name: String,
    filenode: i64,
    database: i64,
    access_method: String,
    blocks: i64,
    is_foreign: bool,
    names: Vec<String>,
    definitions: Vec<Option<String>>,
}

from_row!(StorageRow {
    root,
    oid,
    schema,
    name,
    filenode,
    database,
    access_method,
    blocks,
    is_foreign,
    names,
    definitions
});

/// SQL: what a recursive `part (column_type, oid)` adds to itself, the types that a type is made of.
pub(crate) const TYPES_OF_TYPES: &str = r#"select p.column_type, n.oid
  from part p
  join pg_type t on t.oid = p.oid
 cross join lateral (
       select t.typbasetype as oid where t.typtype = 'd'
       union all
       select t.typelem where t.typelem <> 0
       union all
       select a.atttypid from pg_attribute a
        where t.typtype = 'c' and a.attrelid = t.typrelid
          and a.attnum > 0 and not a.attisdropped
       union all
       select r.rngsubtype from pg_range r where r.rngtypid = t.oid
       union all
       select r.rngtypid from pg_range r where r.rngmultitypid = t.oid) n"#;

/// What holds the rows of these tables, by the tables' oids.
pub(crate) async fn storage(
    connection: &Session,
    roots: &[u32],
) -> Result<BTreeMap<u32, Vec<Storage>>> {
    let roots: Vec<i64> = roots.iter().map(|&oid| i64::from(oid)).collect();
    let rows: Vec<StorageRow> = connection
        .query(
            &format!(
                r#"
        with recursive
        leaf (root, oid) as (
          select wanted.oid, coalesce(t.relid, wanted.oid::oid)
            -- A table of base may be compared with two of head's.
            from (select distinct unnest($1::int8[])) as wanted (oid)
            join pg_class c on c.oid = wanted.oid::oid
            left join lateral pg_partition_tree(c.oid) t on c.relkind = 'p' and t.isleaf
           where c.relkind <> 'p' or t.relid is not null
        ),
        -- Each column's type with every type that it is made of.
        part (column_type, oid) as (
          select distinct a.atttypid, a.atttypid
            from leaf l
            join pg_attribute a on a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped
          union
          {TYPES_OF_TYPES}
        ),
        -- What decides how a type's stored bytes print. The types that print names of catalog
        -- objects (regclass and its like, aclitem) depend on more than that.
        meaning (oid, definition) as (
          select t.oid,
                 case when t.oid in (24, 1033, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096,
                                     4191)
                      then null
                      else concat_ws('|', t.oid, t.typnamespace, t.typname, t.typtype, t.typtypmod,
                                     t.typoutput,
                                     (select string_agg(concat_ws(':', e.oid, e.enumlabel), ','
                                                        order by e.oid)
                                        from pg_enum e where e.enumtypid = t.oid),
                                     (select string_agg(concat_ws(':', a.attnum, a.attname,
                                                                  a.atttypid, a.atttypmod,
                                                                  a.attisdropped), ','
                                                        order by a.attnum)
                                        from pg_attribute a
                                       where t.typtype = 'c' and a.attrelid = t.typrelid
                                         and a.attnum > 0),
                                     (select concat_ws(' ', x.extname, x.extversion)
                                        from pg_depend d
                                        join pg_extension x on x.oid = d.refobjid
                                       where d.classid = 'pg_type'::regclass and d.objid = t.oid
                                         and d.refclassid = 'pg_extension'::regclass
                                         and d.deptype = 'e'))
                 end
            from pg_type t
           where t.oid in (select oid from part)
        ),
        type_meaning (oid, definition) as (
          select p.column_type,
                 case when bool_and(m.definition is not null)
                      then string_agg(m.definition, E'\n' order by m.oid) end
            from part p
            join meaning m on m.oid = p.oid
           group by p.column_type
        )
        select l.root,
               c.oid::int8,
               n.nspname::text as schema,
               c.relname::text as name,
               coalesce(pg_relation_filenode(c.oid), 0)::int8 as filenode,
               d.oid::int8 as database,
               coalesce(am.amname, '')::text as access_method,
               pg_relation_size(c.oid) / pg_size_bytes(current_setting('block_size')) as blocks,
               c.relkind = 'f' as is_foreign,
               columns.names,
               columns.definitions
          from leaf l
          join pg_class c on c.oid = l.oid
          join pg_namespace n on n.oid = c.relnamespace
          join pg_database d on d.datname = current_database()
          left join pg_am am on am.oid = c.relam
         cross join lateral (
               select coalesce(array_agg(a.attname::text order by a.attnum), '{{}}') as names,
                      coalesce(array_agg(
                        -- A virtual column is an expression, not stored bytes.
                        case when a.attgenerated <> 'v' and m.definition is not null then
                          concat_ws('|', a.attnum, a.atttypid, a.atttypmod, a.attcollation,
                                    m.definition) end
                        order by a.attnum), '{{}}') as definitions
                 from pg_attribute a
                 left join type_meaning m on m.oid = a.atttypid
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) columns
        "#
            ),
            &[&roots],
        )
        .await?;
    let mut storage = BTreeMap::<u32, Vec<Storage>>::new();
    for row in rows {
        storage.entry(row.root as u32).or_default().push(Storage {
            oid: row.oid as u32,
            name: TableName { schema: row.schema, name: row.name },
            filenode: row.filenode as u32,
            database: row.database as u32,
            access_method: row.access_method,
            blocks: u32::try_from(row.blocks).unwrap_or(u32::MAX),
            foreign: row.is_foreign,
            columns: row.names.into_iter().zip(row.definitions).collect(),
        });
    }
    Ok(storage)
}

/// The relations in which the same place and xmin mean the same row on both servers, or why that
/// cannot be said of this table.
pub(crate) fn same_rows(
    pair: &TablePair,
    on_head: &[Storage],
    on_base: &[Storage],
) -> Result<Vec<SameStorage>, String> {
    let Some(base) = &pair.base else { return Err("it is not on base".to_owned()) };
    if base.oid != pair.head.oid {
        return Err("it was created anew in the gap".to_owned());
    }
    if pair.base_filter != pair.published.filter {
        return Err("its row filter changed in the gap".to_owned());
    }
    if on_head.len() != on_base.len() {
        return Err("its partitions are not the same on both sides".to_owned());
    }
    on_head
        .iter()
        .map(|head| {
            let base = on_base
                .iter()
                .find(|base| base.oid == head.oid)
                .ok_or_else(|| format!("{} is not a part of it on both sides", head.name))?;
            if base.database != head.database {
                return Err("the databases are not restores of one".to_owned());
            }
            if base.filenode != head.filenode || head.filenode == 0 {
                return Err(format!("{} was rewritten in the gap", head.name));
            }
            if base.access_method != "heap" || head.access_method != "heap" {
                return Err(format!("{} is not stored as a heap", head.name));
            }
            for (name, definition) in &head.columns {
                let compared = pair.table.columns.iter().position(|column| &column.name == name);
                let name_on_base = match compared {
                    // A column that was renamed holds the same bytes.
                    Some(at) => &pair.base_columns[at].name,
                    None if pair.published.filter.is_some() => name,
                    None => continue,
                };
                match (definition, base.columns.get(name_on_base)) {
                    (None, _) => {
                        return Err(format!(
                            "what column {name:?} prints depends on more than its stored bytes"
                        ));
                    }
                    (Some(head), Some(Some(base))) if head == base => {}
                    _ => return Err(format!("the bytes of column {name:?} changed their meaning")),
                }
            }
            Ok(SameStorage {
                oid: head.oid,
                filenode: head.filenode,
                head: head.name.clone(),
                base: base.name.clone(),
                blocks: head.blocks.max(base.blocks),
            })
        })
        .collect()
}
