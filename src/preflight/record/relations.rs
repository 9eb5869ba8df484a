//! What a server's catalogs say of its tables and publications, in a form that two moments can be
//! compared by.

use crate::catalog::{OUR_SCHEMA, TYPES_OF_TYPES};
use crate::error::Result;
use crate::model::{RecordedPublication, RecordedRelation, TableName};
use crate::postgres::{Session, from_row};

struct RelationRow {
    oid: i64,
    schema: String,
    name: String,
    filenode: i64,
    bytes: Option<i64>,
    written: i64,
    parents: Vec<i64>,
    published: bool,
    altered: bool,
    definition: String,
}

from_row!(RelationRow {
    oid,
    schema,
    name,
    filenode,
    bytes,
    written,
    parents,
    published,
    altered,
    definition
});

/// All tables of the database, with one query however many there are, by name. Waits for no lock of a
/// prepared transaction.
///
/// [`RecordedRelation::altered`] is set for those that one of the newest `transactions` altered. What
/// values of types such as `regclass` print is a part of their tables' definitions: the names of all
/// objects up to `newest_oid`; later ones were made since, and no row names them.
pub(crate) async fn relations(
    connection: &Session,
    transactions: u64,
    newest_oid: Option<u32>,
) -> Result<Vec<RecordedRelation>> {
    let rows = relation_rows(connection, transactions, newest_oid).await?;
    Ok(rows.into_iter().map(RecordedRelation::from).collect())
}

impl From<RelationRow> for RecordedRelation {
    fn from(row: RelationRow) -> Self {
        Self {
            name: TableName { schema: row.schema, name: row.name },
            oid: row.oid as u32,
            filenode: row.filenode as u32,
            bytes: row.bytes.and_then(|bytes| u64::try_from(bytes).ok()),
            written: u64::try_from(row.written).unwrap_or(0),
            parents: row.parents.into_iter().map(|oid| oid as u32).collect(),
            published: row.published,
            altered: row.altered,
            definition: row.definition,
        }
    }
}

/// Hashes of 64 bits suffice: they are compared with the same table's only, and nobody forges them.
/// `format` and `json_build_array` call the types' output functions, which no cast of the user's
/// replaces.
async fn relation_rows(
    connection: &Session,
    transactions: u64,
    newest_oid: Option<u32>,
) -> Result<Vec<RelationRow>> {
    let published_schemas = if has_published_schemas(connection).await? {
        "exists (select from pg_publication_namespace s where s.pnnspid = c.relnamespace)"
    } else {
        "false"
    };
    let sql = format!(
        r#"
        with recursive
        relation as materialized (
          select c.oid, c.relname, c.relnamespace, n.nspname, c.relkind, c.relpersistence,
                 c.relreplident, c.relam, c.reloftype, c.relispartition, c.relpartbound,
                 age(c.xmin)::int8 as age
            from pg_class c
            join pg_namespace n on n.oid = c.relnamespace
           where c.relkind in ('r', 'p')
             and c.relpersistence <> 't'
             -- Those below are the server's own.
             and c.oid >= 16384
             and not {OUR_SCHEMA}
        ),
        -- pg_relation_size would wait for these.
        locked as materialized (
          select l.relation as oid
            from pg_locks l
            join pg_database d on d.oid = l.database
           where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.granted
             and d.datname = current_database()
        ),
        -- Each column's type with every type that it is made of.
        part (column_type, oid) as (
          select distinct a.atttypid, a.atttypid
            from relation r
            join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
          union
          {TYPES_OF_TYPES}
        ),
        -- What values of these types print. Only catalogs that a column prints names of are read.
        named (type, definition) as materialized (
          select t.oid,
                 (select hashtextextended(string_agg(format('%s %s', v.oid, v.name), ','
                                                     order by v.oid) collate "C", 0)
                    from (select c.oid, format('%s.%s', c.relnamespace, c.relname) as name
                            from pg_class c
                            join pg_namespace n on n.oid = c.relnamespace
                           where t.typname = 'regclass' and c.relpersistence <> 't'
                             and n.nspname <> 'pg_toast' and not {OUR_SCHEMA}
                          union all
                          select y.oid, format('%s.%s', y.typnamespace, y.typname)
                            from pg_type y
                            join pg_namespace n on n.oid = y.typnamespace
                           where t.typname = 'regtype'
                             and n.nspname !~ '^pg_(toast|temp|toast_temp)' and not {OUR_SCHEMA}
                          union all
                          select p.oid, format('%s.%s %s', p.pronamespace, p.proname, p.proargtypes)
                            from pg_proc p
                           where t.typname in ('regproc', 'regprocedure')
                          union all
                          select o.oid, format('%s.%s %s %s', o.oprnamespace, o.oprname, o.oprleft,
                                               o.oprright)
                            from pg_operator o
                           where t.typname in ('regoper', 'regoperator')
                          union all
                          select r.oid, format('%s', r.rolname)
                            from pg_roles r
                           where t.typname = 'regrole' and r.rolname !~ '^deltacompare_[0-9a-f]{{12}}$'
                          union all
                          select n.oid, format('%s', n.nspname)
                            from pg_namespace n
                           where t.typname <> 'regrole' and n.nspname !~ '^pg_(temp|toast_temp)'
                             and not {OUR_SCHEMA}
                          union all
                          select f.oid, format('%s.%s', f.cfgnamespace, f.cfgname)
                            from pg_ts_config f where t.typname = 'regconfig'
                          union all
                          select f.oid, format('%s.%s', f.dictnamespace, f.dictname)
                            from pg_ts_dict f where t.typname = 'regdictionary'
                          union all
                          select l.oid, format('%s.%s', l.collnamespace, l.collname)
                            from pg_collation l where t.typname = 'regcollation') v
                   where v.oid::int8 <= $2)
            from pg_type t
           where t.typnamespace = 'pg_catalog'::regnamespace and t.typtype = 'b'
             and t.typname ~ '^reg' and t.oid in (select p.oid from part p)
        ),
        type_definition (oid, definition) as materialized (
          select t.oid,
                 format('%s', json_build_array(
                   t.oid, t.typnamespace, t.typname, t.typtype, t.typbasetype, t.typtypmod,
                   t.typelem, t.typcollation, t.typoutput,
                   (select v.definition from named v where v.type = t.oid),
                   (select json_agg(json_build_array(e.oid, e.enumlabel) order by e.enumsortorder)
                      from pg_enum e where e.enumtypid = t.oid),
                   (select json_agg(json_build_array(a.attnum, a.attname, a.atttypid, a.atttypmod,
                                                     a.attcollation, a.attisdropped)
                                    order by a.attnum)
                      from pg_attribute a
                     where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0),
                   (select json_agg(json_build_array(x.extname, x.extversion) order by x.oid)
                      from pg_depend d
                      join pg_extension x on x.oid = d.refobjid
                     where d.classid = 'pg_type'::regclass and d.objid = t.oid
                       and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e')))
            from pg_type t
           where t.oid in (select p.oid from part p)
        ),
        column_type (oid, definition) as materialized (
          select p.column_type,
                 hashtextextended(string_agg(d.definition, ',' order by d.oid) collate "C", 0)
            from part p
            join type_definition d on d.oid = p.oid
           group by p.column_type
        ),
        columns (oid, youngest, definition) as materialized (
          select a.attrelid,
                 min(age(a.xmin)::int8) filter (where age(a.xmin) > 0),
                 json_agg(json_build_array(
                   a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull,
                   a.attgenerated, a.attisdropped, a.attmissingval::text, d.definition,
                   case when a.attgenerated <> '' then g.adbin::text end) order by a.attnum)
            from relation r
            join pg_attribute a on a.attrelid = r.oid and a.attnum > 0
            left join column_type d on d.oid = a.atttypid
            left join pg_attrdef g on g.adrelid = a.attrelid and g.adnum = a.attnum
           group by a.attrelid
        ),
        keys (oid, definition) as materialized (
          select i.indrelid,
                 json_agg(json_build_array(
                   i.indisprimary, i.indisreplident, i.indisvalid, i.indisunique, i.indimmediate,
                   i.indnkeyatts, i.indkey, i.indclass, i.indcollation)
                   order by i.indisprimary, i.indexrelid)
            from relation r
            join pg_index i on i.indrelid = r.oid and (i.indisprimary or i.indisreplident)
           group by i.indrelid
        ),
        publications (oid, definition) as materialized (
          select m.prrelid,
                 json_agg(json_build_array(p.pubname, to_jsonb(m) ->> 'prqual',
                                           to_jsonb(m) ->> 'prattrs') order by p.pubname)
            from pg_publication_rel m
            join pg_publication p on p.oid = m.prpubid
           group by m.prrelid
        ),
        parents (oid, parents, definition) as materialized (
          select h.inhrelid,
                 array_agg(h.inhparent::int8 order by h.inhseqno),
                 json_agg(json_build_array(h.inhparent, h.inhdetachpending) order by h.inhseqno)
            from relation r
            join pg_inherits h on h.inhrelid = r.oid
           group by h.inhrelid
        )
        select c.oid::int8,
               c.nspname::text as schema,
               c.relname::text as name,
               coalesce(pg_relation_filenode(c.oid), 0)::int8 as filenode,
               case when c.relkind = 'r' and c.oid not in (select l.oid from locked l)
                    then pg_relation_size(c.oid) end as bytes,
               coalesce(pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid)
                        + pg_stat_get_tuples_deleted(c.oid), 0) as written,
               coalesce(h.parents, '{{}}') as parents,
               c.relpersistence = 'p'
                 and (exists (select from pg_publication p where p.puballtables)
                      or m.oid is not null
                      or {published_schemas}) as published,
               (c.age > 0 and c.age <= $1 or coalesce(a.youngest <= $1, false)) as altered,
               to_hex(hashtextextended(format('%s', json_build_array(
                 c.relname, c.relnamespace, c.nspname, c.relkind, c.relpersistence, c.relreplident,
                 c.relam, c.reloftype, c.relispartition, c.relpartbound::text,
                 h.definition, k.definition, m.definition, a.definition)) collate "C", 0)) as definition
          from relation c
          left join columns a on a.oid = c.oid
          left join keys k on k.oid = c.oid
          left join parents h on h.oid = c.oid
          left join publications m on m.oid = c.oid
         order by c.nspname, c.relname
        "#
    );
    let until = newest_oid.map_or(i64::MAX, i64::from);
    let transactions = i64::try_from(transactions).unwrap_or(i64::MAX);
    connection.query(&sql, &[&transactions, &until]).await
}

/// PostgreSQL 15 brought publications of schemas.
async fn has_published_schemas(connection: &Session) -> Result<bool> {
    connection.query_one("select to_regclass('pg_publication_namespace') is not null", &[]).await
}

/// All publications of the database, by name.
pub(crate) async fn publications(connection: &Session) -> Result<Vec<RecordedPublication>> {
    let schemas = if has_published_schemas(connection).await? {
        "(select json_agg(s.pnnspid order by s.pnnspid) from pg_publication_namespace s \
           where s.pnpubid = p.oid)"
    } else {
        "null"
    };
    let rows: Vec<(String, String)> = connection
        .query(
            &format!(
                r#"
        select p.pubname::text,
               to_hex(hashtextextended(format('%s', json_build_array(
                 to_jsonb(p) - 'pubowner', {schemas})) collate "C", 0))
          from pg_publication p
         order by 1
        "#
            ),
            &[],
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|(name, definition)| RecordedPublication { name, definition })
        .collect())
}
