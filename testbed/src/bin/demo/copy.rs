//! Rows of a table as COPY prints them, in the order of their keys.

use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use deltacompare_testbed::{Connection, CopyOut, Role, Server};
use futures_util::StreamExt;

use crate::shop::Table;

/// What values look like must not depend on a server's configuration.
const SETTINGS: &str = "set extra_float_digits = 3; set datestyle = 'ISO, MDY'; set timezone = 'UTC'; \
     set intervalstyle = postgres; set bytea_output = hex; set lc_monetary = 'C'; set jit = off; \
     set work_mem = '64MB'; set search_path = pg_catalog";

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    /// What rows are paired and sorted by.
    pub(crate) key: Vec<u8>,
    /// The line that COPY prints, without its end.
    pub(crate) line: Vec<u8>,
}

/// A table's columns, and which of them are its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) columns: Vec<String>,
    /// Positions in `columns`: the key's, or all for a table without a key.
    key: Vec<usize>,
}

impl Shape {
    pub(crate) async fn of(server: &Server, table: &Table) -> Result<Self> {
        let columns: Vec<(String,)> = server
            .rows(format!(
                "select attname::text from pg_attribute
                  where attrelid = '{}'::regclass and attnum > 0 and not attisdropped
                  order by attnum",
                table.name
            ))
            .await?;
        let columns: Vec<String> = columns.into_iter().map(|(name,)| name).collect();
        let key = if table.key.is_empty() {
            (0..columns.len()).collect()
        } else {
            let position = |name: &&str| columns.iter().position(|column| column == name);
            table.key.iter().map(position).collect::<Option<_>>().context("a key without column")?
        };
        Ok(Self { columns, key })
    }

    /// The row that a line is.
    pub(crate) fn row(&self, line: Vec<u8>) -> Row {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
        let mut key = Vec::new();
        for &at in &self.key {
            match fields.get(at) {
                None | Some(&b"\\N") => key.push(1),
                Some(field) => unescape(field, &mut key),
            }
            key.push(2);
        }
        Row { key, line }
    }

    /// The row of these values in column order.
    pub(crate) fn row_of(&self, values: impl IntoIterator<Item = Option<String>>) -> Row {
        let fields: Vec<String> =
            values.into_iter().map(|value| escape(value.as_deref())).collect();
        self.row(fields.join("\t").into_bytes())
    }

    /// SQL that yields a row's key as [`Row::key`] has it.
    fn key_sql(&self) -> String {
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|&at| format!("\"{}\"", self.columns[at]))
            .map(|name| {
                // format() prints a value as COPY does.
                format!("case when num_nulls({name}) = 1 then e'\\x01' else format('%s', {name}) end || e'\\x02'")
            })
            .collect();
        parts.join(" || ")
    }
}

/// The rows of one table on one server, sorted by key, read as they are needed.
pub(crate) struct Rows<'c> {
    shape: &'c Shape,
    lines: CopyOut,
    buffer: BytesMut,
    next: Option<Row>,
    read: u64,
}

/// A session whose values print the same on every server.
pub(crate) async fn session(server: &Server) -> Result<Connection> {
    let connection = server.connect_as(Role::Admin).await?;
    connection.sql(SETTINGS).await?;
    Ok(connection)
}

impl<'c> Rows<'c> {
    pub(crate) async fn read(
        connection: &Connection,
        table: &Table,
        shape: &'c Shape,
    ) -> Result<Self> {
        let columns: Vec<String> =
            shape.columns.iter().map(|column| format!("\"{column}\"")).collect();
        let copy = format!(
            "copy (select {} from {} order by ({}) collate \"C\") to stdout",
            columns.join(", "),
            table.name,
            shape.key_sql()
        );
        let lines = connection.copy_out(&copy).await?;
        let mut rows = Self { shape, lines, buffer: BytesMut::new(), next: None, read: 0 };
        rows.advance().await?;
        Ok(rows)
    }

    /// How many rows were taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.read
    }

    /// The key of the next row.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.next.as_ref().map(|row| row.key.as_slice())
    }

    /// Takes all next rows with this key into `rows`, which is emptied first.
    pub(crate) async fn take(&mut self, key: &[u8], rows: &mut Vec<Row>) -> Result<()> {
        rows.clear();
        while self.key() == Some(key) {
            rows.extend(self.advance().await?);
            self.read += 1;
        }
        Ok(())
    }

    /// Yields the next row, and reads the one behind it.
    async fn advance(&mut self) -> Result<Option<Row>> {
        let next = self.line().await?.map(|line| self.shape.row(line));
        if let (Some(before), Some(after)) = (&self.next, &next)
            && before.key > after.key
        {
            bail!("the server sorts keys otherwise than this check does");
        }
        Ok(std::mem::replace(&mut self.next, next))
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end).to_vec();
                self.buffer.advance(1);
                return Ok(Some(line));
            }
            match self.lines.next().await {
                Some(part) => self.buffer.extend_from_slice(&part?),
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("COPY ended within a row"),
            }
        }
    }
}

/// Each letter that COPY escapes, and what it stands for (PostgreSQL manual, "COPY").
const ESCAPES: [(u8, u8); 6] =
    [(b'b', 8), (b'f', 12), (b'n', b'\n'), (b'r', b'\r'), (b't', b'\t'), (b'v', 11)];

fn unescape(field: &[u8], out: &mut Vec<u8>) {
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => {
                let &letter = bytes.next().unwrap_or(&b'\\');
                ESCAPES.iter().find(|(from, _)| *from == letter).map_or(letter, |(_, to)| *to)
            }
            byte => byte,
        });
    }
}

fn escape(value: Option<&str>) -> String {
    let Some(value) = value else { return "\\N".to_owned() };
    let mut field = String::with_capacity(value.len());
    for c in value.chars() {
        match ESCAPES.iter().find(|(_, to)| char::from(*to) == c) {
            Some((letter, _)) => field.extend(['\\', char::from(*letter)]),
            None if c == '\\' => field.push_str("\\\\"),
            None => field.push(c),
        }
    }
    field
}
