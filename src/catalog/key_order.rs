//! What the order of a key's values depends on, and so what an index on them is good for.
//!
//! An index may be used to find a row, and may be walked in its order on both servers, only where its
//! order is known. Everything else is matched by the bytes of the printed key.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::postgres::{Session, from_row};

/// The order of a column that belongs to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyOrder {
    pub(super) depends_on: DependsOn,
    /// The types that its values are made of and their collations, down to the bottom.
    pub(super) types: String,
    /// The collations that take part, but for those that compare bytes.
    pub(super) collations: Vec<Collation>,
}

/// What else than the values decides their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DependsOn {
    /// Nothing: it is the same on every server.
    Nothing,
    /// The server's own catalog (an enum's labels), which its indexes agree with.
    Catalog,
    /// A library (a collation's, an extension's), which may be another one than an index was made
    /// with.
    Library,
    /// Nothing can be said of it: operators cannot be named.
    ///
    /// PostgreSQL has one `=` and one `<` for all enums, one for all arrays, and so on. Where a
    /// value may also be cast implicitly, to text say, it finds two operators for `enum = enum` and
    /// prefers none ("operator is not unique"), in whatever schema they are looked for. Types with
    /// operators of their own are not concerned: those match exactly.
    ImplicitCast,
}

/// A collation with its library's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collation {
    pub(super) name: String,
    /// What its indexes were made with, as far as the catalog says.
    pub(super) recorded: Option<String>,
    /// What the server runs; `None` if it does not say.
    pub(super) running: Option<String>,
}

struct OrderRow {
    relation: i64,
    name: String,
    depends_on: i32,
    types: String,
    collations: Vec<String>,
    recorded: Vec<Option<String>>,
    running: Vec<Option<String>>,
}

from_row!(OrderRow { relation, name, depends_on, types, collations, recorded, running });

/// The orders of the columns of these tables' primary keys and replica identity indexes, by oid and
/// name. Columns whose index is no btree (a temporal key's) have none.
pub(super) async fn key_orders(
    connection: &Session,
    oids: &[i64],
) -> Result<BTreeMap<i64, BTreeMap<String, KeyOrder>>> {
    let rows: Vec<OrderRow> = connection.query(
        r#"
        with recursive
        key_column (relation, name, type, sorted_by) as (
          select a.attrelid, a.attname, a.atttypid, a.attcollation
            from pg_attribute a
           where a.attrelid = any ($1::int8[]::oid[]) and a.attnum > 0 and not a.attisdropped
             and exists (
                   select from pg_index i
                     join pg_class c on c.oid = i.indexrelid
                     join pg_am m on m.oid = c.relam and m.amname = 'btree'
                    where i.indrelid = a.attrelid and (i.indisprimary or i.indisreplident)
                      and a.attnum = any (i.indkey))
        ),
        -- Each type with every type that it is made of. The collation of a column is that of the
        -- elements of its arrays and of the types below its domains; attributes of composites and
        -- bounds of ranges have their own.
        part (type, sorted_by, path, oid, part_sorted_by) as (
          select distinct k.type, k.sorted_by, '{}'::int4[], k.type, k.sorted_by
            from key_column k
          union all
          select p.type, p.sorted_by, array_append(p.path, n.place), n.oid, n.sorted_by
            from part p
            join pg_type t on t.oid = p.oid
           cross join lateral (
                 select 0 as place, t.typbasetype as oid, p.part_sorted_by as sorted_by
                  where t.typtype = 'd'
                 union all
                 select 0, t.typelem, p.part_sorted_by
                  where t.typtype = 'b' and t.typelem <> 0
                    and t.typsubscript = 'array_subscript_handler'::regproc
                 union all
                 select a.attnum::int4, a.atttypid, a.attcollation
                   from pg_attribute a
                  where t.typtype = 'c' and a.attrelid = t.typrelid
                    and a.attnum > 0 and not a.attisdropped
                 union all
                 select 0, r.rngsubtype, r.rngcollation from pg_range r where r.rngtypid = t.oid
                 union all
                 select 0, r.rngtypid, 0::oid from pg_range r where r.rngmultitypid = t.oid) n
        ),
        sorting (oid, name, of_bytes, recorded, running) as (
          select c.oid, c.collname::text,
                 coalesce(case c.collprovider
                            when 'b' then true
                            when 'c' then to_jsonb(c) ->> 'collcollate' in ('C', 'POSIX')
                            when 'd' then coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'b'
                              or coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'
                                 and to_jsonb(d) ->> 'datcollate' in ('C', 'POSIX')
                          end, false),
                 case when c.collprovider = 'd'
                      then to_jsonb(d) ->> 'datcollversion' else c.collversion end,
                 case when c.collprovider = 'd'
                      -- That of the database's own collation cannot be asked for before 16; what
                      -- the same library says of another one can.
                      then (select max(pg_collation_actual_version(o.oid))
                              from pg_collation o
                             where o.collname = 'und-x-icu' and o.collprovider = 'i'
                                     and to_jsonb(d) ->> 'datlocprovider' = 'i'
                                or o.collprovider = 'c'
                                     and coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'
                                     and replace(lower(to_jsonb(o) ->> 'collcollate'), '-', '')
                                       = replace(lower(to_jsonb(d) ->> 'datcollate'), '-', ''))
                      else pg_collation_actual_version(c.oid) end
            from pg_collation c
            join pg_database d on d.datname = current_database()
           where c.oid in (select p.part_sorted_by from part p)
        ),
        type_order as (
          select p.type,
                 p.sorted_by,
                 max(case
                       -- Casts of PostgreSQL's own have smaller numbers.
                       when (t.typtype <> 'b' or t.typelem <> 0)
                        and exists (select from pg_cast k
                                     where k.castsource = t.oid and k.castcontext = 'i'
                                       and k.oid >= 16384::oid) then 3
                       -- bool, bytea, "char", int8, int2, int4, oid, float4, float8, money, macaddr,
                       -- inet, cidr, macaddr8, date, time, timestamp, timestamptz, interval, timetz,
                       -- bit, varbit, numeric, uuid, pg_lsn, xid8
                       when t.oid in (16, 17, 18, 20, 21, 23, 26, 700, 701, 790, 829, 869, 650, 774,
                                      1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950,
                                      3220, 5069) then 0
                       -- name, text, char(n), varchar
                       when t.oid in (19, 25, 1042, 1043) and s.of_bytes then 0
                       when t.typtype in ('d', 'c', 'm') then 0
                       when t.typtype = 'r' then
                         case when o.opcdefault and o.opcnamespace = 'pg_catalog'::regnamespace
                              then 0 else 2 end
                       when t.typtype = 'b'
                        and t.typsubscript = 'array_subscript_handler'::regproc then 0
                       -- Enums, and types that are numbers here and names when they print.
                       when t.typtype = 'e' then 1
                       when t.oid in (24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191)
                         then 1
                       else 2
                     end) as depends_on,
                 string_agg(format('%s %s %s', p.path, p.oid, p.part_sorted_by), ','
                            order by p.path) as types,
                 coalesce(array_agg(s.name order by p.path) filter (where not s.of_bytes), '{}')
                   as collations,
                 coalesce(array_agg(s.recorded order by p.path) filter (where not s.of_bytes), '{}')
                   as recorded,
                 coalesce(array_agg(s.running order by p.path) filter (where not s.of_bytes), '{}')
                   as running
            from part p
            join pg_type t on t.oid = p.oid
            left join pg_range r on r.rngtypid = t.oid
            left join pg_opclass o on o.oid = r.rngsubopc
            left join sorting s on s.oid = p.part_sorted_by
           group by p.type, p.sorted_by
        )
        select k.relation::int8 as relation, k.name::text as name, o.depends_on, o.types,
               o.collations, o.recorded, o.running
          from key_column k
          join type_order o on o.type = k.type and o.sorted_by = k.sorted_by
        "#,
        &[&oids],
    )
    .await?;
    let mut orders = BTreeMap::<i64, BTreeMap<String, KeyOrder>>::new();
    for row in rows {
        let mut collations: Vec<Collation> = Vec::new();
        let versions = row.recorded.into_iter().zip(row.running);
        for (name, (recorded, running)) in row.collations.into_iter().zip(versions) {
            let collation = Collation { name, recorded, running };
            if !collations.contains(&collation) {
                collations.push(collation);
            }
        }
        let depends_on = match row.depends_on {
            0 => DependsOn::Nothing,
            1 => DependsOn::Catalog,
            2 => DependsOn::Library,
            _ => DependsOn::ImplicitCast,
        };
        let order = KeyOrder { depends_on, types: row.types, collations };
        orders.entry(row.relation).or_default().insert(row.name, order);
    }
    Ok(orders)
}
