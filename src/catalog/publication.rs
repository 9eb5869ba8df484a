//! Which tables a recovery covers, and what of them the publications let through.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::OUR_SCHEMA;
use super::pgoutput::{self, Member, Publication, Publishable, Published};
use super::published_table::{Operations, PublishedTable};
use crate::error::{Error, Result};
use crate::model::TableName;
use crate::postgres::{Session, from_row};

/// What the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Selection {
    /// Only these publications' tables; empty for those of every publication.
    pub(crate) publications: Vec<String>,
    /// Only these tables; otherwise all.
    pub(crate) tables: Vec<TableName>,
    /// Not these tables.
    pub(crate) exclude: Vec<TableName>,
}

/// What an operator chose of what is published.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) tables: BTreeMap<TableName, PublishedTable>,
    /// Partitions that some publication publishes by themselves, and the stream sends as these
    /// selected tables'.
    pub(crate) raised: BTreeMap<TableName, Vec<TableName>>,
    /// Tables of which the publications send no rows at all.
    pub(crate) rowless: Vec<TableName>,
}

/// The selected tables, as head's publications have them. Tables of our own are left out (`FOR ALL
/// TABLES` would publish them).
///
/// # Errors
/// Refused: an unknown publication or table, a table whose rows are sent as another's, or nothing
/// selected.
pub(crate) async fn select(
    head: &Session,
    server_version: u32,
    selection: &Selection,
) -> Result<Selected> {
    let known = publications(head).await?;
    for publication in &selection.publications {
        if !known.contains(publication) {
            return Err(Error::refused(format!(
                "head has no publication {publication:?}; {}",
                if known.is_empty() {
                    "it has none at all: name tables with --table".to_owned()
                } else {
                    format!("it has: {}", known.join(", "))
                }
            )));
        }
    }
    let Published { mut tables, sent_as, mut raised, mut rowless } =
        published(head, server_version, &selection.publications).await?;
    // Names choose among what is sent, and by the names that it is sent under.
    for (option, names) in [("--table", &selection.tables), ("--exclude", &selection.exclude)] {
        for name in names {
            if let (false, Some(others)) = (tables.contains_key(name), sent_as.get(name)) {
                return Err(sent_as_others(option, name, others));
            }
        }
    }
    if !selection.tables.is_empty() {
        let unpublished: Vec<TableName> =
            selection.tables.iter().filter(|name| !tables.contains_key(*name)).cloned().collect();
        if let (false, Some(name)) = (selection.publications.is_empty(), unpublished.first()) {
            return Err(Error::refused(format!(
                "publication {} does not publish {name}: leave --publication or this --table out",
                selection
                    .publications
                    .iter()
                    .map(|publication| format!("{publication:?}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        let named: BTreeSet<&TableName> = selection.tables.iter().collect();
        tables.retain(|name, _| named.contains(name));
        for name in unpublished {
            require_table(head, &name).await?;
            tables.insert(name.clone(), PublishedTable::unpublished(name));
        }
        let partitions = partitions_among(head, &tables.keys().collect()).await?;
        if let Some((partition, root)) = partitions.into_iter().next() {
            return Err(Error::refused(format!(
                "{partition} is a partition of {root}, and --table names both: leave --table \
                 {partition} out"
            )));
        }
    }
    for name in &selection.exclude {
        if tables.remove(name).is_none() {
            require_table(head, name).await?;
        }
    }
    rowless.retain(|name| selection.tables.is_empty() && !selection.exclude.contains(name));
    if tables.is_empty() {
        return Err(Error::refused(format!(
            "no table is selected: head's publications have none{} (or --exclude took all); name \
             tables with --table schema.table",
            match rowless.is_empty() {
                true => "",
                false => " whose inserts, updates or deletes they publish",
            }
        )));
    }
    raised.retain(|name, _| tables.contains_key(name));
    Ok(Selected { tables, raised, rowless })
}

/// A table cannot be chosen by another name than the stream sends its rows under.
fn sent_as_others(option: &str, name: &TableName, others: &BTreeSet<TableName>) -> Error {
    let others: Vec<TableName> = others.iter().cloned().collect();
    let which = match &others[..] {
        [one] => format!("{option} {one}"),
        _ => format!("{option} with each of these"),
    };
    Error::refused(format!(
        "{option} names {name}, whose rows the stream sends as rows of {}: use {which}",
        super::names(&others)
    ))
}

/// The names of a server's publications, sorted.
pub(crate) async fn publications(connection: &Session) -> Result<Vec<String>> {
    connection.query("select pubname::text from pg_publication order by 1", &[]).await
}

struct PublicationRow {
    oid: i64,
    name: String,
    for_all_tables: bool,
    pubviaroot: bool,
    generated: bool,
    pubinsert: bool,
    pubupdate: bool,
    pubdelete: bool,
    pubtruncate: bool,
}

from_row!(PublicationRow {
    oid,
    name,
    for_all_tables,
    pubviaroot,
    generated,
    pubinsert,
    pubupdate,
    pubdelete,
    pubtruncate
});

struct RelationRow {
    oid: i64,
    schema_oid: i64,
    schema: String,
    name: String,
    partitioned: bool,
    ancestors: Vec<i64>,
    columns: Vec<String>,
    generated: Vec<String>,
}

from_row!(RelationRow {
    oid,
    schema_oid,
    schema,
    name,
    partitioned,
    ancestors,
    columns,
    generated
});

/// Stands, with the publication's name, for a row filter that has text that is no UTF-8. It is no SQL.
pub(crate) const UNREADABLE_FILTER: &str = "\u{fffd} not UTF-8, in publication ";

struct MemberRow {
    publication: i64,
    relation: i64,
    /// In UTF-8, unless the database has the encoding SQL_ASCII.
    filter: Option<Vec<u8>>,
    columns: Option<Vec<String>>,
}

from_row!(MemberRow { publication, relation, filter, columns });

/// What a subscription to these publications gets, to all if none is named; without tables of our
/// own.
pub(crate) async fn published(
    connection: &Session,
    server_version: u32,
    publications: &[String],
) -> Result<Published> {
    let publication_rows: Vec<PublicationRow> = connection
        .query(
            r#"
        select p.oid::int8, p.pubname::text as name, p.puballtables as for_all_tables, p.pubviaroot,
               coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false) as generated,
               p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate
          from pg_publication p
         where cardinality($1::text[]) = 0 or p.pubname = any ($1::text[])
         order by p.pubname
        "#,
            &[&publications],
        )
        .await?;
    let oids: Vec<i64> = publication_rows.iter().map(|publication| publication.oid).collect();
    let relation_rows: Vec<RelationRow> = connection
        .query(
            &format!(
                r#"
        select c.oid::int8, n.oid::int8 as schema_oid, n.nspname::text as schema,
               c.relname::text as name, c.relkind = 'p' as partitioned,
               case when c.relispartition
                    then array(select a.relid::oid::int8
                                 from pg_partition_ancestors(c.oid) with ordinality
                                        as a (relid, height)
                                where a.relid <> c.oid
                                order by a.height)
                    else '{{}}' end as ancestors,
               array(select a.attname::text from pg_attribute a
                      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                        and a.attgenerated = '') as columns,
               array(select a.attname::text from pg_attribute a
                      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                        and a.attgenerated = 's') as generated
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
         where (c.relkind = 'r' and c.relpersistence = 'p' or c.relkind = 'p')
           -- Those below are the server's own.
           and c.oid >= 16384
           and not {OUR_SCHEMA}
        "#
            ),
            &[],
        )
        .await?;
    // Row filters, column lists and publications of schemas exist since PostgreSQL 15.
    let since_15 = server_version >= 150_000;
    let (filter, columns) = match since_15 {
        true => (
            r#"
               convert_to(pg_get_expr(m.prqual, m.prrelid),
                          case getdatabaseencoding()::text
                               when 'SQL_ASCII' then 'SQL_ASCII'::name else 'UTF8'::name end)
            "#,
            r#"
               case when m.prattrs is not null then
                 array(select a.attname::text from pg_attribute a
                        where a.attrelid = m.prrelid and a.attnum = any (m.prattrs)) end
            "#,
        ),
        false => ("null::bytea", "null::text[]"),
    };
    let member_rows: Vec<MemberRow> = connection
        .query(
            &format!(
                r#"
        select m.prpubid::int8 as publication, m.prrelid::int8 as relation,
               {filter} as filter, {columns} as columns
          from pg_publication_rel m
         where m.prpubid::int8 = any ($1::int8[])
        "#
            ),
            &[&oids],
        )
        .await?;
    let schemas: Vec<(i64, i64)> = match since_15 {
        true => {
            connection
                .query(
                    r#"
                select m.pnpubid::int8, m.pnnspid::int8
                  from pg_publication_namespace m
                 where m.pnpubid::int8 = any ($1::int8[])
                "#,
                    &[&oids],
                )
                .await?
        }
        false => Vec::new(),
    };
    Ok(catalog(&publication_rows, relation_rows, member_rows, &schemas).published())
}

fn catalog(
    publications: &[PublicationRow],
    relations: Vec<RelationRow>,
    members: Vec<MemberRow>,
    schemas: &[(i64, i64)],
) -> pgoutput::Catalog {
    let schemas: BTreeSet<&(i64, i64)> = schemas.iter().collect();
    let mut schema_of = BTreeMap::new();
    let mut relations: BTreeMap<u32, Publishable> = relations
        .into_iter()
        .map(|row| {
            schema_of.insert(row.oid as u32, row.schema_oid);
            let relation = Publishable {
                name: TableName { schema: row.schema, name: row.name },
                partitioned: row.partitioned,
                ancestors: row.ancestors.into_iter().map(|oid| oid as u32).collect(),
                columns: row.columns.into_iter().collect(),
                generated: row.generated.into_iter().collect(),
                members: BTreeMap::new(),
            };
            (row.oid as u32, relation)
        })
        .collect();
    for row in members {
        let at = publications.iter().position(|publication| publication.oid == row.publication);
        if let (Some(at), Some(relation)) = (at, relations.get_mut(&(row.relation as u32))) {
            let columns = row.columns.map(|columns| columns.into_iter().collect());
            let filter = row.filter.map(|filter| {
                String::from_utf8(filter)
                    .unwrap_or_else(|_| format!("{UNREADABLE_FILTER}{:?}", publications[at].name))
            });
            relation.members.insert(at, Member { filter, columns });
        }
    }
    for (at, publication) in publications.iter().enumerate() {
        for (oid, relation) in &mut relations {
            if publication.for_all_tables || schemas.contains(&&(publication.oid, schema_of[oid])) {
                // Of a table that it names as well, such a publication keeps the columns alone.
                relation.members.entry(at).or_default().filter = None;
            }
        }
    }
    let publications = publications
        .iter()
        .map(|row| Publication {
            operations: Operations {
                insert: row.pubinsert,
                update: row.pubupdate,
                delete: row.pubdelete,
                truncate: row.pubtruncate,
            },
            via_root: row.pubviaroot,
            generated: row.generated,
        })
        .collect();
    pgoutput::Catalog { publications, relations }
}

/// Those of these tables that are partitions of others of them, each with the topmost of these.
pub(crate) async fn partitions_among(
    connection: &Session,
    tables: &BTreeSet<&TableName>,
) -> Result<BTreeMap<TableName, TableName>> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    let pairs: Vec<(String, String, String, String)> = connection
        .query(
            r#"
        select ln.nspname::text, l.relname::text, rn.nspname::text, r.relname::text
          from unnest($1::text[], $2::text[]) as wanted (schema, name)
          join pg_namespace ln on ln.nspname = wanted.schema
          join pg_class l on l.relnamespace = ln.oid and l.relname = wanted.name
         cross join lateral pg_partition_ancestors(l.oid) with ordinality as a (relid, height)
          join pg_class r on r.oid = a.relid
          join pg_namespace rn on rn.oid = r.relnamespace
         where l.relispartition and r.oid <> l.oid
         order by 1, 2, a.height desc
        "#,
            &[&schemas, &names],
        )
        .await?;
    let mut partitions = BTreeMap::new();
    for (schema, name, root_schema, root_name) in pairs {
        let root = TableName { schema: root_schema, name: root_name };
        if tables.contains(&root) {
            partitions.entry(TableName { schema, name }).or_insert(root);
        }
    }
    Ok(partitions)
}

async fn require_table(head: &Session, name: &TableName) -> Result<()> {
    let kind: Option<String> = head
        .query_opt(
            r#"
        select case c.relpersistence when 'p' then c.relkind::text else 'not logged' end
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = $2
        "#,
            &[&name.schema, &name.name],
        )
        .await?;
    match kind.as_deref() {
        Some("r" | "p") => Ok(()),
        Some("not logged") => Err(Error::refused(format!(
            "{name} on head is unlogged or temporary: no slot delivers its changes, and a restore \
             has none of its rows; leave it out"
        ))),
        Some(_) => Err(Error::refused(format!("{name} on head is not a table"))),
        None => Err(Error::refused(format!(
            "head has no table {name}: check the spelling (unquoted names are folded to lower \
             case, as in PostgreSQL)"
        ))),
    }
}
