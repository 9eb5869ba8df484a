//! What publications cover of a server's tables, and what therefore has to be sent, in the words of
//! docs/drift.md and by code of the test's own.

use std::collections::{BTreeMap, BTreeSet};

use deltacompare_testbed::Server;

use crate::support::{NetChange, Row, State, TableName, covered_rows, identity_columns, quoted};

/// A table as some publications cover it together.
#[derive(Clone, Debug)]
pub(super) struct Covered {
    pub(super) columns: BTreeSet<String>,
    pub(super) filter: Option<String>,
    /// No publication leaves operations out.
    pub(super) all_operations: bool,
}

/// A table of a server, published or not.
#[derive(Clone, Debug)]
struct Relation {
    oid: i64,
    /// Read with `only`.
    parent: bool,
    /// Columns by name.
    columns: BTreeMap<String, i16>,
}

/// Schema, name, oid, whether it is a parent, and its columns with their numbers.
type RelationRow = (String, String, i64, bool, Vec<String>, Vec<i16>);

/// Schema, name, columns, filter, and whether all operations are published.
type CoveredRow = (String, String, Vec<String>, Option<String>, bool);

/// A server's tables and what publications cover of them.
pub(super) struct Side<'a> {
    server: &'a Server,
    relations: BTreeMap<TableName, Relation>,
    /// `None`: it has none of these publications.
    pub(super) covered: Option<BTreeMap<TableName, Covered>>,
}

impl<'a> Side<'a> {
    pub(super) async fn of(server: &'a Server, major: u32, publications: &[String]) -> Self {
        let rows: Vec<RelationRow> = server
            .rows(
                "select n.nspname::text, c.relname::text, c.oid::int8,
                        c.relkind = 'r' and exists (select from pg_inherits where inhparent = c.oid),
                        array_agg(a.attname::text order by a.attnum),
                        array_agg(a.attnum order by a.attnum)
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
                        and not a.attisdropped and a.attgenerated = ''
                  where c.relkind in ('r', 'p') and n.nspname in ('public', 'sold')
                  group by 1, 2, 3, 4",
            )
            .await
            .unwrap();
        let relations = rows
            .into_iter()
            .map(|(schema, name, oid, parent, columns, numbers)| {
                let columns = columns.into_iter().zip(numbers).collect();
                (TableName::new(&schema, &name), Relation { oid, parent, columns })
            })
            .collect();
        let covered = covered(server, major, publications).await;
        Self { server, relations, covered }
    }

    /// The rows of a table as these columns print, each under another name.
    async fn rows(
        &self,
        table: &TableName,
        columns: &[(String, String)],
        filter: &str,
    ) -> Vec<Row> {
        let only = if self.relations[table].parent { "only " } else { "" };
        let list: Vec<String> =
            columns.iter().map(|(here, there)| format!("{} as {there}", quoted(here))).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        covered_rows(self.server, &list, &format!("{only}{table}"), filter).await
    }
}

async fn covered(
    server: &Server,
    major: u32,
    publications: &[String],
) -> Option<BTreeMap<TableName, Covered>> {
    let list = format!("array['{}']", publications.join("','"));
    let known: i64 = server
        .value(format!("select count(*) from pg_publication where pubname = any ({list})"))
        .await
        .unwrap();
    if known == 0 {
        return None;
    }
    let (attributes, filter) = match major {
        14 => ("null::name[]", "null::text"),
        _ => ("t.attnames", "t.rowfilter"),
    };
    let rows: Vec<CoveredRow> = server
        .rows(format!(
            "select t.schemaname::text, t.tablename::text,
                    array(select attname::text from pg_attribute
                           where attrelid = format('%I.%I', t.schemaname, t.tablename)::regclass
                             and attnum > 0 and not attisdropped and attgenerated = ''
                             and ({attributes} is null or attname = any ({attributes}))),
                    {filter},
                    pubinsert and pubupdate and pubdelete and pubtruncate
               from pg_publication_tables t join pg_publication p using (pubname)
              where t.pubname = any ({list}) and t.schemaname in ('public', 'sold')"
        ))
        .await
        .unwrap();
    let mut covered = BTreeMap::<TableName, Covered>::new();
    for (schema, name, columns, filter, all_operations) in rows {
        let name = TableName::new(&schema, &name);
        let columns: BTreeSet<String> = columns.into_iter().collect();
        let Some(known) = covered.get_mut(&name) else {
            covered.insert(name, Covered { columns, filter, all_operations });
            continue;
        };
        known.columns.extend(columns);
        known.filter = match (known.filter.take(), filter) {
            (Some(one), Some(other)) => Some(format!("({one}) or ({other})")),
            _ => None,
        };
        known.all_operations &= all_operations;
    }
    // A partition goes as the topmost table above it that is covered too.
    let names: Vec<TableName> = covered.keys().cloned().collect();
    for name in names {
        let above: Vec<(String, String)> = server
            .rows(format!(
                "select n.nspname::text, c.relname::text
                   from pg_partition_ancestors('{name}') a join pg_class c on c.oid = a.relid
                   join pg_namespace n on n.oid = c.relnamespace where c.oid <> '{name}'::regclass"
            ))
            .await
            .unwrap();
        let above = above.iter().map(|(schema, name)| TableName::new(schema, name));
        if above.into_iter().any(|above| covered.contains_key(&above)) {
            covered.remove(&name);
        }
    }
    Some(covered)
}

/// The rows that downstream has of a table if it has base's state, and those that it must have.
pub(super) struct Expected {
    pub(super) base: Vec<Row>,
    pub(super) head: Vec<Row>,
    /// What identifies a row on head, if it is sent.
    pub(super) key: Vec<String>,
}

impl Expected {
    pub(super) async fn of(base: &Side<'_>, head: &Side<'_>, table: &TableName) -> Self {
        let covered = &head.covered.as_ref().unwrap()[table];
        let there = &head.relations[table];
        let by_oid = |(_, relation): &(&TableName, &Relation)| relation.oid == there.oid;
        let found =
            base.relations.get_key_value(table).or_else(|| base.relations.iter().find(by_oid));
        let filter = covered.filter.clone().unwrap_or("true".to_owned());
        let mut columns: Vec<(String, String)> =
            covered.columns.iter().map(|name| (name.clone(), name.clone())).collect();
        let mut before = Vec::new();
        if let Some((name, relation)) = found {
            let on_base = base.covered.as_ref().and_then(|covered| covered.get(name));
            let filter_on_base = match on_base {
                Some(on_base) => on_base.filter.clone().unwrap_or("true".to_owned()),
                None => filter.clone(),
            };
            let only = format!("select from {name} where {filter_on_base} limit 0");
            if base.server.sql(only).await.is_ok() {
                columns = columns
                    .into_iter()
                    .filter_map(|(_, on_head)| {
                        let by_number = relation.columns.iter().find(|(_, number)| {
                            relation.oid == there.oid && **number == there.columns[&on_head]
                        });
                        let by_name = relation.columns.get_key_value(&on_head);
                        Some((by_name.or(by_number)?.0.clone(), on_head))
                    })
                    .collect();
                before = base.rows(name, &columns, &filter_on_base).await;
            } else {
                assert!(on_base.is_none(), "{name}: {filter_on_base}");
            }
        }
        let same: Vec<(String, String)> =
            columns.iter().map(|(_, name)| (name.clone(), name.clone())).collect();
        let after = head.rows(table, &same, &filter).await;
        let key = identity_columns(head.server, table).await;
        let sent = key.iter().all(|name| columns.iter().any(|(_, on_head)| on_head == name));
        Self { base: before, head: after, key: if sent { key } else { Vec::new() } }
    }

    /// The same as states, keyed as head says.
    pub(super) fn states(&self) -> (State, State) {
        let state = |rows: &[Row]| {
            let mut state = State::keyed(self.key.clone());
            rows.iter().for_each(|row| state.insert(row.clone()));
            state
        };
        (state(&self.base), state(&self.head))
    }

    /// Fails unless these changes (rows that went, rows that came) turn the one into the other, and
    /// nothing goes and comes in vain.
    pub(super) fn assert_changed_by(&self, gone: Vec<Row>, come: Vec<Row>, what: &str) {
        let counted = |rows: &[Row]| {
            let mut counted = BTreeMap::<Row, i64>::new();
            rows.iter().for_each(|row| *counted.entry(row.clone()).or_default() += 1);
            counted
        };
        let (gone, come) = (counted(&gone), counted(&come));
        let vain: Vec<&Row> = gone.keys().filter(|row| come.contains_key(*row)).collect();
        assert!(vain.is_empty(), "{what}: went and came unchanged: {vain:?}");
        let mut rows = counted(&self.base);
        come.into_iter().for_each(|(row, count)| *rows.entry(row).or_default() += count);
        gone.into_iter().for_each(|(row, count)| *rows.entry(row).or_default() -= count);
        rows.retain(|_, count| *count != 0);
        let head = counted(&self.head);
        let wrong = rows.iter().filter(|(row, count)| head.get(*row) != Some(*count));
        let wrong: Vec<(&Row, &i64)> = wrong.take(5).collect();
        let missing = head.iter().filter(|(row, _)| !rows.contains_key(*row));
        let missing: Vec<(&Row, &i64)> = missing.take(5).collect();
        assert!(wrong.is_empty() && missing.is_empty(), "{what}: {wrong:?} for {missing:?}");
    }

    /// A row's change, keyed as head says.
    pub(super) fn change(&self, before: Option<Row>, after: Option<Row>) -> NetChange {
        let key = State::keyed(self.key.clone());
        match (before, after) {
            (None, Some(after)) => NetChange::Insert(after),
            (Some(_), Some(after)) => NetChange::Update { key: key.key_of(&after), after },
            (Some(before), None) => NetChange::Delete(key.key_of(&before)),
            (None, None) => panic!("no change"),
        }
    }
}
