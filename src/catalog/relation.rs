//! A table as one server's catalog describes it.

use std::collections::BTreeMap;

use super::key_order::{KeyOrder, key_orders};
use super::{BaseType, Column, ReplicaIdentity};
use crate::error::Result;
use crate::model::TableName;
use crate::postgres::{Session, from_row};

/// A table on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    pub(crate) kind: RelationKind,
    /// Whether its changes are logged: a restore has no rows of a table that is not. Of a partitioned
    /// table, its partitions tell.
    pub(crate) logged: bool,
    /// The partitions whose changes are not logged, by oid.
    pub(crate) unlogged_partitions: BTreeMap<u32, TableName>,
    /// All columns, generated ones included, in their order.
    pub(crate) columns: Vec<RelationColumn>,
    /// Names of the columns of the primary key, in key order; empty without one.
    pub(crate) primary_key: Vec<String>,
    /// The columns of the chosen replica identity index, in key order; empty without one.
    pub(crate) identity_index: Vec<String>,
    pub(crate) replica_identity: ReplicaIdentity,
    /// Whether reading it as the session's user is subject to row security.
    pub(crate) row_security: bool,
    /// Whether row security is declared at all, and so binds whoever does not own the table.
    pub(crate) row_security_enabled: bool,
    /// Whether the session's user may read it.
    pub(crate) readable: bool,
    /// What the order of each column of a key depends on.
    pub(crate) orders: BTreeMap<String, KeyOrder>,
    /// The planner's row count; `None` if never counted.
    pub(crate) rows: Option<u64>,
    /// Size on disk in bytes, TOAST included, indexes not.
    pub(crate) bytes: u64,
    /// Pages of it that hold rows, TOAST and maps not counted.
    pub(crate) pages: u64,
    /// Rows inserted, updated or deleted since the statistics began, that is, since the restore.
    pub(crate) written: u64,
}

/// What a relation is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelationKind {
    /// A table without children.
    Plain,
    /// A table that others inherit from: read with `only`.
    Parent,
    /// A partitioned table: read through its root.
    Partitioned,
}

/// A column on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    pub(crate) column: Column,
    pub(crate) generated: bool,
    /// The labels of its enum, or the attributes of its composite type; of its elements', if it is
    /// an array.
    pub(crate) parts: Vec<String>,
}

struct RelationRow {
    oid: i64,
    schema: String,
    name: String,
    relkind: String,
    logged: bool,
    unlogged_oids: Vec<i64>,
    unlogged_schemas: Vec<String>,
    unlogged_names: Vec<String>,
    has_children: bool,
    relreplident: String,
    primary_key: Vec<String>,
    identity_index: Vec<String>,
    row_security: bool,
    row_security_enabled: bool,
    readable: bool,
    reltuples: f64,
    bytes: i64,
    pages: i64,
    written: i64,
}

from_row!(RelationRow {
    oid,
    schema,
    name,
    relkind,
    logged,
    unlogged_oids,
    unlogged_schemas,
    unlogged_names,
    has_children,
    relreplident,
    primary_key,
    identity_index,
    row_security,
    row_security_enabled,
    readable,
    reltuples,
    bytes,
    pages,
    written
});

struct ColumnRow {
    relation: i64,
    name: String,
    attnum: i16,
    declared: String,
    not_null: bool,
    generated: bool,
    typmod: i32,
    base_oid: i64,
    base_schema: String,
    base_name: String,
    base_kind: String,
    element_oid: Option<i64>,
    element_schema: Option<String>,
    element_name: Option<String>,
    element_kind: Option<String>,
    parts: Vec<String>,
}

from_row!(ColumnRow {
    relation,
    name,
    attnum,
    declared,
    not_null,
    generated,
    typmod,
    base_oid,
    base_schema,
    base_name,
    base_kind,
    element_oid,
    element_schema,
    element_name,
    element_kind,
    parts
});

/// The named tables that exist on this server, with two queries however many there are.
pub(crate) async fn relations(
    connection: &Session,
    names: &[TableName],
) -> Result<BTreeMap<TableName, Relation>> {
    let (schemas, tables): (Vec<&str>, Vec<&str>) =
        names.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    let rows: Vec<RelationRow> = connection.query(
r#"
        with
        -- The relations that hold each table's rows: itself, or its leaf partitions.
        storage as (
          select c.oid as root, coalesce(t.relid, c.oid) as leaf
            from unnest($1::text[], $2::text[]) as wanted (schema, name)
            join pg_namespace n on n.nspname = wanted.schema
            join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
            left join lateral pg_partition_tree(case c.relkind when 'p' then c.oid end) t on t.isleaf
           where c.relkind in ('r', 'p')
        ),
        -- Once for all tables, and joined with catalogs alone, by their indexes: looking into the
        -- list above for each table would take the square of their number.
        measured as (
          select s.root,
                 -- As the planner does: so many rows a page as were counted, and the pages of today.
                 coalesce(sum(nullif(l.reltuples, -1)
                              * coalesce(pg_relation_size(l.oid)
                                           / pg_size_bytes(current_setting('block_size'))::float8
                                           / nullif(l.relpages, 0), 1)), -1)::float8 as reltuples,
                 sum(pg_table_size(l.oid))::int8 as bytes,
                 sum(pg_relation_size(l.oid))::int8
                   / pg_size_bytes(current_setting('block_size')) as pages,
                 sum(pg_stat_get_tuples_inserted(l.oid)
                     + pg_stat_get_tuples_updated(l.oid)
                     + pg_stat_get_tuples_deleted(l.oid))::int8 as written,
                 array_agg(l.oid::int8 order by l.oid) filter (where is_unlogged) as unlogged_oids,
                 array_agg(n.nspname::text order by l.oid) filter (where is_unlogged)
                   as unlogged_schemas,
                 array_agg(l.relname::text order by l.oid) filter (where is_unlogged)
                   as unlogged_names
            from storage s
            join pg_class l on l.oid = s.leaf
            join pg_namespace n on n.oid = l.relnamespace
           cross join lateral (
                 select l.relkind = 'r' and l.relpersistence = 'u' and s.leaf <> s.root
                          as is_unlogged) u
           group by s.root
        )
        select c.oid::int8,
               n.nspname::text as schema,
               c.relname::text as name,
               c.relkind::text,
               (c.relpersistence = 'p' or c.relkind = 'p') as logged,
               coalesce(m.unlogged_oids, '{}') as unlogged_oids,
               coalesce(m.unlogged_schemas, '{}') as unlogged_schemas,
               coalesce(m.unlogged_names, '{}') as unlogged_names,
               exists (select from pg_inherits i where i.inhparent = c.oid) as has_children,
               c.relreplident::text,
               array(select a.attname::text
                       from pg_index i
                      cross join unnest(i.indkey) with ordinality as k (attnum, position)
                       join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                      where i.indrelid = c.oid and i.indisprimary and k.position <= i.indnkeyatts
                        -- A root's is not, until all partitions have it.
                        and i.indisvalid
                      order by k.position) as primary_key,
               array(select a.attname::text
                       from pg_index i
                      cross join unnest(i.indkey) with ordinality as k (attnum, position)
                       join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                      where i.indrelid = c.oid and i.indisreplident and i.indisvalid
                        and k.position <= i.indnkeyatts
                        -- One that is unique by other collations or operators than the columns'
                        -- own does not tell apart what `=` finds equal, nor serves to find it.
                        and not exists (
                              select from unnest(i.indclass, i.indcollation, i.indkey)
                                            with ordinality as x (class, sorted_by, attnum, position)
                                join pg_opclass o on o.oid = x.class
                                left join pg_attribute b
                                  on b.attrelid = c.oid and b.attnum = x.attnum
                               where x.position <= i.indnkeyatts
                                 and (not o.opcdefault or x.sorted_by <> b.attcollation))
                        -- Where "not null" is not validated (18 and newer), there may be nulls.
                        and not exists (
                              select from pg_constraint o
                               where o.conrelid = c.oid and o.contype = 'n'
                                 and not o.convalidated
                                 and o.conkey[1] = any (i.indkey))
                      order by k.position) as identity_index,
               row_security_active(c.oid) as row_security,
               c.relrowsecurity as row_security_enabled,
               (has_table_privilege(c.oid, 'select')
                 and has_schema_privilege(c.relnamespace, 'usage')) as readable,
               m.reltuples,
               m.bytes,
               m.pages,
               m.written
          from measured m
          join pg_class c on c.oid = m.root
          join pg_namespace n on n.oid = c.relnamespace
        "#,
&[&schemas, &tables],
)
    .await?;
    let oids: Vec<i64> = rows.iter().map(|row| row.oid).collect();
    let mut columns = columns(connection, &oids).await?;
    let mut orders = key_orders(connection, &oids).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let columns = columns.remove(&row.oid).unwrap_or_default();
            let orders = orders.remove(&row.oid).unwrap_or_default();
            let relation = relation(row, columns, orders);
            (relation.name.clone(), relation)
        })
        .collect())
}

async fn columns(connection: &Session, oids: &[i64]) -> Result<BTreeMap<i64, Vec<RelationColumn>>> {
    let rows: Vec<ColumnRow> = connection
        .query(
            r#"
        with recursive
        -- Each domain with the type at its bottom, the type modifier that is in force, and
        -- whether any level forbids nulls.
        step (oid, base, typmod, not_null) as (
          select oid, typbasetype, typtypmod, typnotnull from pg_type where typtype = 'd'
          union all
          select s.oid, t.typbasetype,
                 case when s.typmod = -1 then t.typtypmod else s.typmod end,
                 s.not_null or t.typnotnull
            from step s
            join pg_type t on t.oid = s.base
           where t.typtype = 'd'
        ),
        resolved (oid, base, typmod, not_null) as (
          select s.oid, s.base, s.typmod, s.not_null
            from step s
            join pg_type t on t.oid = s.base
           where t.typtype <> 'd'
        )
        select a.attrelid::int8 as relation,
               a.attname::text as name,
               a.attnum,
               format_type(a.atttypid, a.atttypmod) as declared,
               (a.attnotnull
                  and not exists (select from pg_constraint o
                                   where o.conrelid = a.attrelid and o.contype = 'n'
                                     and not o.convalidated and o.conkey[1] = a.attnum)
                or coalesce(d.not_null, false)) as not_null,
               (a.attgenerated <> '') as generated,
               coalesce(d.typmod, a.atttypmod) as typmod,
               b.oid::int8 as base_oid,
               bn.nspname::text as base_schema,
               b.typname::text as base_name,
               b.typtype::text as base_kind,
               e.oid::int8 as element_oid,
               en.nspname::text as element_schema,
               e.typname::text as element_name,
               e.typtype::text as element_kind,
               case coalesce(e.typtype, b.typtype)
                 when 'e' then
                   array(select l.enumlabel::text from pg_enum l
                          where l.enumtypid = coalesce(e.oid, b.oid) order by l.enumsortorder)
                 when 'c' then
                   array(select format('%s %s', p.attname, format_type(p.atttypid, p.atttypmod))
                           from pg_attribute p
                          where p.attrelid = coalesce(e.typrelid, b.typrelid)
                            and p.attnum > 0 and not p.attisdropped
                          order by p.attnum)
                 else '{}'
               end as parts
          from pg_attribute a
          left join resolved d on d.oid = a.atttypid
          join pg_type b on b.oid = coalesce(d.base, a.atttypid)
          join pg_namespace bn on bn.oid = b.typnamespace
          -- A true array has a subscripting function for arrays; name, point and the like are
          -- subscriptable too, but not arrays.
          left join pg_type ea
            on ea.oid = b.typelem and b.typsubscript = 'array_subscript_handler'::regproc
          left join resolved ed on ed.oid = ea.oid
          left join pg_type e on e.oid = coalesce(ed.base, ea.oid)
          left join pg_namespace en on en.oid = e.typnamespace
         where a.attrelid = any ($1::int8[]) and a.attnum > 0 and not a.attisdropped
         order by a.attrelid, a.attnum
        "#,
            &[&oids],
        )
        .await?;
    let mut columns = BTreeMap::<i64, Vec<RelationColumn>>::new();
    for row in rows {
        columns.entry(row.relation).or_default().push(column(row));
    }
    Ok(columns)
}

fn relation(
    row: RelationRow,
    columns: Vec<RelationColumn>,
    orders: BTreeMap<String, KeyOrder>,
) -> Relation {
    let unlogged_names = row.unlogged_schemas.into_iter().zip(row.unlogged_names);
    let unlogged_partitions = row
        .unlogged_oids
        .into_iter()
        .map(|oid| oid as u32)
        .zip(unlogged_names.map(|(schema, name)| TableName { schema, name }))
        .collect();
    Relation {
        oid: row.oid as u32,
        name: TableName { schema: row.schema, name: row.name },
        kind: match (row.relkind.as_str(), row.has_children) {
            ("p", _) => RelationKind::Partitioned,
            (_, true) => RelationKind::Parent,
            _ => RelationKind::Plain,
        },
        logged: row.logged,
        unlogged_partitions,
        columns,
        primary_key: row.primary_key,
        identity_index: row.identity_index,
        orders,
        replica_identity: ReplicaIdentity::of_letter(&row.relreplident),
        row_security: row.row_security,
        row_security_enabled: row.row_security_enabled,
        readable: row.readable,
        rows: (row.reltuples >= 0.0).then_some(row.reltuples as u64),
        bytes: row.bytes.max(0) as u64,
        pages: row.pages.max(0) as u64,
        written: row.written.max(0) as u64,
    }
}

fn column(row: ColumnRow) -> RelationColumn {
    let kind = |kind: String| kind.chars().next().unwrap_or('b');
    let element = match (row.element_oid, row.element_schema, row.element_name, row.element_kind) {
        (Some(oid), Some(schema), Some(name), Some(element_kind)) => {
            Some(BaseType { oid: oid as u32, schema, name, kind: kind(element_kind) })
        }
        _ => None,
    };
    RelationColumn {
        column: Column {
            name: row.name,
            attnum: row.attnum,
            declared: row.declared,
            base: BaseType {
                oid: row.base_oid as u32,
                schema: row.base_schema,
                name: row.base_name,
                kind: kind(row.base_kind),
            },
            typmod: row.typmod,
            element,
            not_null: row.not_null,
        },
        generated: row.generated,
        parts: row.parts,
    }
}
