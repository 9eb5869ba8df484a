//! Rows as PostgreSQL prints them: read from a table, or cast from what an event says.

use std::collections::{BTreeMap, BTreeSet};

use deltacompare_testbed::{Connection, Server};
use futures_util::TryStreamExt;

use crate::table::{TableName, literal, quoted};

/// A row: each column's text.
pub type Row = BTreeMap<String, Option<String>>;

/// A connection that prints values as images are defined (design.md, section 2).
///
/// A login costs a server more than most of what is asked here, so a judge keeps one.
pub struct Printer(Connection);

impl Printer {
    pub async fn of(server: &Server) -> Self {
        let connection = server.connect().await.unwrap();
        connection
            .sql(
                "set extra_float_digits = 3; set datestyle = 'ISO, MDY'; set timezone = 'UTC'; \
                 set intervalstyle = postgres; set bytea_output = hex; set lc_monetary = 'C'; \
                 set search_path = pg_catalog; set array_nulls = on; set xmloption = content",
            )
            .await
            .unwrap();
        Self(connection)
    }

    pub async fn close(self) {
        self.0.close().await.unwrap();
    }

    /// Whether there is such a table.
    pub async fn has(&self, table: &TableName) -> bool {
        let exists = "select to_regclass($1) is not null";
        self.0.value(exists, &[&table.to_string()]).await.unwrap()
    }

    /// All rows of a table, without those of tables that inherit from it. Generated columns are left
    /// out.
    pub async fn rows(&self, table: &TableName) -> Vec<Row> {
        let connection = &self.0;
        let name = table.to_string();
        let columns: Vec<String> = connection
            .values(
                "select attname::text from pg_attribute where attrelid = $1::text::regclass \
             and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
                &[&name],
            )
            .await
            .unwrap();
        let list: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
        let only: String = connection
            .value(
                "select case relkind when 'p' then '' else 'only' end from pg_class \
              where oid = $1::text::regclass",
                &[&name],
            )
            .await
            .unwrap();
        copied(connection, &format!("select {} from {only} {table}", list.join(", ")), &columns)
            .await
    }

    /// The rows of a query of these columns, each `name` or `expression as name`.
    pub async fn covered_rows(&self, columns: &[&str], from: &str, filter: &str) -> Vec<Row> {
        let names: Vec<String> =
            columns.iter().map(|column| column.rsplit(" as ").next().unwrap().to_owned()).collect();
        let query = format!("select {} from {from} where {filter}", columns.join(", "));
        copied(&self.0, &query, &names).await
    }

    /// What the values of these rows print after a cast to the types of the table's columns.
    pub async fn cast(&self, table: &TableName, rows: &mut [Row]) {
        let names: BTreeSet<String> = rows.iter().flat_map(|row| row.keys().cloned()).collect();
        let connection = &self.0;
        for name in names {
            let declared: String = connection
                .value(
                    "select format_type(atttypid, atttypmod) from pg_attribute \
                  where attrelid = $1::text::regclass and attname = $2::text and attnum > 0 \
                    and not attisdropped",
                    &[&table.to_string(), &name],
                )
                .await
                .unwrap_or_else(|error| panic!("column {name} of {table}: {error:#}"));
            let texts: Vec<&str> =
                rows.iter().filter_map(|row| row.get(&name)?.as_deref()).collect();
            if texts.is_empty() {
                continue;
            }
            // Literals are read by the type's input function, whatever casts the database has.
            let values: Vec<String> = texts
                .iter()
                .enumerate()
                .map(|(at, text)| format!("({at}, {}::{declared})", literal(text)))
                .collect();
            let query = format!(
                "select format('%s', v.value) from (values {}) v (at, value) order by v.at",
                values.join(", ")
            );
            let printed: Vec<String> =
                connection.values(&query, &[]).await.unwrap_or_else(|error| {
                    panic!("column {name} {declared} of {table}: {error:#}: {texts:?}")
                });
            let mut printed = printed.into_iter();
            for row in rows.iter_mut() {
                if let Some(Some(text)) = row.get_mut(&name) {
                    *text = printed.next().unwrap();
                }
            }
        }
    }

    /// The columns that identify a row downstream, by name; none without a key.
    pub async fn key(&self, table: &TableName) -> Vec<String> {
        self.0
            .values(
                "select a.attname::text from pg_index i \
               join pg_class c on c.oid = i.indrelid \
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) \
              where i.indrelid = $1::text::regclass \
                and case when c.relreplident = 'i' then i.indisreplident \
                         else i.indisprimary end \
              order by 1",
                &[&table.to_string()],
            )
            .await
            .unwrap()
    }
}

async fn copied(connection: &Connection, query: &str, columns: &[String]) -> Vec<Row> {
    let text = connection
        .copy_out(&format!("copy ({query}) to stdout"))
        .await
        .unwrap_or_else(|error| panic!("{query}: {error:#}"))
        .try_fold(Vec::new(), |mut all, part| async move {
            all.extend_from_slice(&part);
            Ok(all)
        })
        .await
        .unwrap();
    String::from_utf8(text)
        .unwrap()
        .lines()
        .map(|line| columns.iter().cloned().zip(line.split('\t').map(unescape)).collect())
        .collect()
}

/// Undoes COPY's escapes.
fn unescape(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    let mut text = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next().unwrap() {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                c => c,
            },
            c => c,
        });
    }
    Some(text)
}
