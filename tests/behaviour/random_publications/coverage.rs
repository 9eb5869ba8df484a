//! What publications cover of a server's tables, and what therefore has to be sent, in the words of
//! docs/drift.md and by code of the test's own.

use std::collections::{BTreeMap, BTreeSet};

use deltacompare_testbed::Server;
use tokio::sync::OnceCell;

use crate::support::{NetChange, Printer, Row, State, Streamed, TableName, quoted};

/// A table as some publications cover it together.
#[derive(Clone, Debug)]
pub(super) struct Covered {
    pub(super) columns: BTreeSet<String>,
    /// The rows that some operation lets through.
    pub(super) filter: String,
    /// Those that inserts let through.
    pub(super) inserts: String,
    /// Rows of some partitions, and of no others.
    pub(super) partitions_alone: bool,
    /// No publication leaves operations out, of no partition.
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

/// A publication that publishes the rows of a relation as those of a table.
#[derive(Clone, Debug)]
struct SentRow {
    relation: i64,
    sent_as: i64,
    schema: String,
    name: String,
    /// How far that is above the relation.
    level: i64,
    inserts: bool,
    updates: bool,
    deletes: bool,
    truncates: bool,
    filter: Option<String>,
    columns: Vec<String>,
}

/// The fields of a [`SentRow`].
type SentColumns =
    (i64, i64, String, String, i64, bool, bool, bool, bool, Option<String>, Vec<String>);

impl From<SentColumns> for SentRow {
    fn from(columns: SentColumns) -> Self {
        let (
            relation,
            sent_as,
            schema,
            name,
            level,
            inserts,
            updates,
            deletes,
            truncates,
            filter,
            columns,
        ) = columns;
        Self {
            relation,
            sent_as,
            schema,
            name,
            level,
            inserts,
            updates,
            deletes,
            truncates,
            filter,
            columns,
        }
    }
}

/// A server's tables and what publications cover of them.
pub(super) struct Side<'a> {
    server: &'a Server,
    /// Opened when the first row is read: a recovery must not meet it.
    printer: OnceCell<Printer>,
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
        Self { server, printer: OnceCell::new(), relations, covered }
    }

    async fn printer(&self) -> &Printer {
        self.printer.get_or_init(|| Printer::of(self.server)).await
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
        self.printer().await.covered_rows(&list, &format!("{only}{table}"), filter).await
    }
}

/// What pgoutput makes of these publications (of all if none is named): each relation is sent as
/// the topmost table that one of them publishes it as; its operations are those of all, filters
/// those of the topmost, by operation.
async fn covered(
    server: &Server,
    major: u32,
    publications: &[String],
) -> Option<BTreeMap<TableName, Covered>> {
    let named = match publications {
        [] => "true".to_owned(),
        names => format!("p.pubname = any (array['{}'])", names.join("','")),
    };
    let known: i64 =
        server.value(format!("select count(*) from pg_publication p where {named}")).await.unwrap();
    if known == 0 {
        return None;
    }
    let (filter, list, schema) = match major {
        14 => ("null::text", "true", "false"),
        _ => (
            "pg_get_expr(r.prqual, r.prrelid)",
            "(r.prattrs is null or a.attnum = any (r.prattrs))",
            "exists (select from pg_publication_namespace s
                      where s.pnpubid = p.oid and s.pnnspid = t.relnamespace)",
        ),
    };
    let rows: Vec<SentColumns> = server
        .rows(format!(
            "with line (relation, partitioned, ancestor, level) as (
               select c.oid, c.relkind = 'p', c.oid, 0::int8 from pg_class c
                where c.relkind in ('r', 'p') and c.relnamespace in ('public'::regnamespace, 'sold'::regnamespace)
               union all
               select c.oid, c.relkind = 'p', a.relid, a.height - 1
                 from pg_class c, pg_partition_ancestors(c.oid) with ordinality a (relid, height)
                where c.relkind in ('r', 'p') and c.relispartition and a.relid <> c.oid
             ),
             has as (
               select l.*, p.oid as publication, p.pubviaroot
                 from line l join pg_class t on t.oid = l.ancestor join pg_publication p on {named}
                where (p.puballtables or {schema}
                       or exists (select from pg_publication_rel r
                                   where r.prpubid = p.oid and r.prrelid = l.ancestor))
                  and (p.pubviaroot or not l.partitioned)
             ),
             sends as (
               select relation, publication, case when pubviaroot then max(level) else 0 end as level
                 from has group by relation, publication, pubviaroot
             )
             select s.relation::int8, t.oid::int8 as sent_as, n.nspname::text as schema,
                    t.relname::text as name, s.level, p.pubinsert as inserts,
                    p.pubupdate as updates, p.pubdelete as deletes, p.pubtruncate as truncates,
                    case when p.puballtables or {schema} then null else {filter} end as filter,
                    array(select a.attname::text from pg_attribute a
                           where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
                             and a.attgenerated = '' and {list}) as columns
               from sends s
               join line l on l.relation = s.relation and l.level = s.level
               join pg_class t on t.oid = l.ancestor
               join pg_namespace n on n.oid = t.relnamespace
               join pg_publication p on p.oid = s.publication
               left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = t.oid
              order by p.pubname"
        ))
        .await
        .unwrap();
    let mut by_relation = BTreeMap::<i64, Vec<SentRow>>::new();
    for row in rows.into_iter().map(SentRow::from) {
        by_relation.entry(row.relation).or_default().push(row);
    }
    let mut by_table = BTreeMap::<TableName, BTreeMap<i64, Vec<SentRow>>>::new();
    for (relation, rows) in by_relation {
        let top = rows.iter().max_by_key(|row| row.level).unwrap();
        let table = TableName::new(&top.schema, &top.name);
        by_table.entry(table).or_default().insert(relation, rows);
    }
    let covered = by_table
        .into_iter()
        .map(|(table, relations)| (table, together(&relations)))
        .filter(|(_, covered)| covered.filter != "(false)");
    Some(covered.collect())
}

/// The conditions of a relation's rows, by operation: `false` for one that is not published.
fn by_operation(rows: &[SentRow]) -> [String; 3] {
    let level = rows.iter().map(|row| row.level).max().unwrap();
    let of = |publishes: fn(&SentRow) -> bool| {
        let publishing: Vec<&SentRow> = rows.iter().filter(|row| publishes(row)).collect();
        if publishing.is_empty() {
            return "(false)".to_owned();
        }
        let topmost = publishing.iter().filter(|row| row.level == level);
        let filters: Option<BTreeSet<String>> =
            topmost.map(|row| Some(format!("({})", row.filter.as_ref()?))).collect();
        match filters {
            Some(filters) if !filters.is_empty() => Vec::from_iter(filters).join(" or "),
            _ => "(true)".to_owned(),
        }
    };
    [of(|row| row.inserts), of(|row| row.updates), of(|row| row.deletes)]
}

/// A table of which these relations' rows are sent: itself, if it is one of them, says what is true
/// of partitions that the other server does not have.
fn together(relations: &BTreeMap<i64, Vec<SentRow>>) -> Covered {
    let any = relations.values().next().unwrap();
    let sent_as = any.iter().max_by_key(|row| row.level).unwrap().sent_as;
    let itself = &relations[&sent_as];
    let condition = |of: &dyn Fn([String; 3]) -> String| {
        let common = of(by_operation(itself));
        let mut branches = String::new();
        for (relation, rows) in relations {
            let own = of(by_operation(rows));
            if own != common {
                branches += &format!(" when {relation} then {own}");
            }
        }
        match branches.is_empty() {
            true => common,
            false => format!("case tableoid::int8{branches} else {common} end"),
        }
    };
    let union = |[inserts, updates, deletes]: [String; 3]| {
        let all: BTreeSet<String> = [inserts, updates, deletes].into();
        let published: Vec<String> = all.into_iter().filter(|it| it != "(false)").collect();
        match published.is_empty() {
            true => "(false)".to_owned(),
            false if published.iter().any(|it| it == "(true)") => "(true)".to_owned(),
            false => published.join(" or "),
        }
    };
    let top = |rows: &[SentRow]| -> Vec<SentRow> {
        let level = rows.iter().map(|row| row.level).max().unwrap();
        rows.iter().filter(|row| row.level == level).cloned().collect()
    };
    let all = |rows: &Vec<SentRow>| {
        [
            rows.iter().any(|row| row.inserts),
            rows.iter().any(|row| row.updates),
            rows.iter().any(|row| row.deletes),
            rows.iter().any(|row| row.truncates),
        ] == [true; 4]
    };
    Covered {
        columns: top(itself).into_iter().flat_map(|row| row.columns).collect(),
        filter: condition(&union),
        inserts: condition(&|[inserts, ..]| inserts),
        partitions_alone: union(by_operation(itself)) == "(false)",
        all_operations: relations.values().all(all),
    }
}

/// The rows that downstream has of a table if it has base's state, and those that it must have.
pub(super) struct Expected {
    pub(super) base: Vec<Row>,
    pub(super) head: Vec<Row>,
    /// The other rows of head, which no operation lets through.
    outside: Vec<Row>,
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
        let filter = covered.filter.clone();
        let mut columns: Vec<(String, String)> =
            covered.columns.iter().map(|name| (name.clone(), name.clone())).collect();
        let mut before = Vec::new();
        if let Some((name, relation)) = found {
            let on_base = base.covered.as_ref().and_then(|covered| covered.get(name));
            // Where inserts let the same rows through, no row came to downstream or left it by a
            // change of the other filters; nor by a partition that is not published any more.
            let decides = async |filter: &str| {
                let only = format!("select from {name} where {filter} limit 0");
                base.server.sql(only).await.is_ok()
            };
            let filter_on_base = match on_base {
                Some(on_base) => {
                    let alone = on_base.partitions_alone || covered.partitions_alone;
                    let same = on_base.inserts == covered.inserts || alone;
                    let of = if same && decides(&filter).await { covered } else { on_base };
                    of.filter.clone()
                }
                None => filter.clone(),
            };
            if decides(&filter_on_base).await {
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
        let outside = head.rows(table, &same, &format!("({filter}) is not true")).await;
        let key = head.printer().await.key(table).await;
        let sent = key.iter().all(|name| columns.iter().any(|(_, on_head)| on_head == name));
        Self { base: before, head: after, outside, key: if sent { key } else { Vec::new() } }
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

    /// Fails if the stream sent a row that is not covered, as it now is.
    pub(super) fn assert_covers(&self, stream: &[Streamed], table: &TableName, what: &str) {
        let covered: BTreeSet<&Row> = self.head.iter().collect();
        let outside: BTreeSet<&Row> = self.outside.iter().collect();
        for change in stream {
            match change {
                Streamed::Insert(name, row) | Streamed::Update(name, _, row) if name == table => {
                    let lost = outside.contains(row) && !covered.contains(row);
                    assert!(!lost, "{what}: streamed and not covered: {row:?}");
                }
                _ => {}
            }
        }
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
