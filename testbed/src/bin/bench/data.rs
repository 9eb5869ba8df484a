//! The data sets: a table, what happens to it in the gap, and who is measured on it.

/// The table that is compared.
pub(crate) const TABLE: &str = "orders";

/// A table and a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DataSet {
    /// Nothing happened
    Same,
    /// 0.07 % of the rows updated, all over the table
    Scattered,
    /// 0.07 % of the rows updated, next to each other
    Clustered,
    /// 10 % updated
    Tenth,
    /// 50 % updated
    Half,
    /// 100 columns, a tenth of the rows, 0.07 % updated
    Wide,
    /// Large documents out of line, a fiftieth of the rows, 0.07 % updated
    Toasted,
    /// A key of two columns, one of them text, 0.07 % updated
    TextKey,
    /// 0.07 % updated, then rewritten by VACUUM FULL
    Rewritten,
    /// 5,000 tables of a 5,000th of the rows, one row of each updated
    Tables,
}

/// How many tables [`DataSet::Tables`] has besides the first.
const MORE_TABLES: u64 = 4_999;

impl DataSet {
    pub(crate) const ALL: &[Self] = &[
        Self::Same,
        Self::Scattered,
        Self::Clustered,
        Self::Tenth,
        Self::Half,
        Self::Wide,
        Self::Toasted,
        Self::TextKey,
        Self::Rewritten,
        Self::Tables,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Scattered => "scattered",
            Self::Clustered => "clustered",
            Self::Tenth => "tenth",
            Self::Half => "half",
            Self::Wide => "wide",
            Self::Toasted => "toasted",
            Self::TextKey => "text-key",
            Self::Rewritten => "rewritten",
            Self::Tables => "tables",
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Same => "nothing changed",
            Self::Scattered => "0.07 % updated, all over the table",
            Self::Clustered => "0.07 % updated, next to each other",
            Self::Tenth => "10 % updated",
            Self::Half => "50 % updated",
            Self::Wide => "a tenth of the rows, 100 columns, 0.07 % updated",
            Self::Toasted => "a fiftieth of the rows, documents of 12 kB, 0.07 % updated",
            Self::TextKey => "key (text, int), 0.07 % updated",
            Self::Rewritten => "0.07 % updated, then VACUUM FULL",
            Self::Tables => "in 5,000 tables, one row of each updated",
        }
    }

    /// Rows of this table when so many were asked for: wide rows are fewer.
    pub(crate) fn rows(self, asked: u64) -> u64 {
        match self {
            Self::Wide => asked / 10,
            Self::Toasted => asked / 50,
            Self::Tables => asked / (MORE_TABLES + 1),
            _ => asked,
        }
    }

    /// The table to name to the program; none for all.
    pub(crate) fn table(self) -> Option<&'static str> {
        (self != Self::Tables).then_some(TABLE)
    }

    /// Whether the rows of the seed's SQL are written to a file, as the events are.
    pub(crate) fn writes_rows(self) -> bool {
        matches!(self, Self::Tenth | Self::Half)
    }

    /// The key's columns.
    pub(crate) fn key(self) -> &'static [&'static str] {
        match self {
            Self::TextKey => &["code", "line"],
            _ => &["id"],
        }
    }

    /// The table, filled.
    pub(crate) fn before(self, rows: u64) -> Vec<String> {
        let rows = self.rows(rows);
        let (columns, values) = match self {
            Self::Wide => {
                let columns: String = (1..=98)
                    .map(|n| match n % 4 {
                        0 => format!(", c{n} int"),
                        1 => format!(", c{n} text"),
                        2 => format!(", c{n} numeric(12,2)"),
                        _ => format!(", c{n} timestamptz"),
                    })
                    .collect();
                let values: String = (1..=98)
                    .map(|n| match n % 4 {
                        0 => format!(", (i + {n})::int"),
                        1 => format!(", 'value ' || (i * {n}) % 10007"),
                        2 => format!(", ((i * {n}) % 100000) / 100.0"),
                        _ => format!(", timestamptz '2024-01-01' + i * interval '{n} s'"),
                    })
                    .collect();
                (
                    format!("id bigint primary key, status text{columns}"),
                    format!("i, 'new'{values}"),
                )
            }
            Self::Toasted => (
                "id bigint primary key, status text, document jsonb".to_owned(),
                // Hashes do not compress: the document stays out of line.
                "i, 'new', (select jsonb_object_agg('field ' || f, md5((i * 1000 + f)::text) || md5((i + f)::text))
                              from generate_series(1, 150) f where i > 0)"
                    .to_owned(),
            ),
            Self::TextKey => (
                format!("code text collate \"C\", line int, {PLAIN}, primary key (code, line)"),
                format!("'ORD-' || lpad((i / 3)::text, 12, '0'), (i % 3)::int, {PLAIN_VALUES}"),
            ),
            _ => (
                format!("id bigint primary key, {PLAIN}"),
                format!("i, {PLAIN_VALUES}"),
            ),
        };
        let mut statements = vec![
            format!("create table {TABLE} ({columns})"),
            format!("insert into {TABLE} select {values} from generate_series(1, {rows}) i"),
            "create table nothing (id int primary key)".to_owned(),
        ];
        if self == Self::Tables {
            // A transaction each: one for all would need more locks than a server has.
            statements.extend((1..=MORE_TABLES).map(|n| {
                format!(
                    "create table {TABLE}_{n} (like {TABLE} including all);
                     insert into {TABLE}_{n} select * from {TABLE}"
                )
            }));
        }
        statements.extend([
            "create publication changes for all tables".to_owned(),
            "vacuum analyze".to_owned(),
            "checkpoint".to_owned(),
        ]);
        statements
    }

    /// What happens in the gap.
    pub(crate) fn during(self, rows: u64) -> Vec<String> {
        let rows = self.rows(rows);
        let update = |condition: &str| {
            let set = match self {
                Self::Wide | Self::Toasted => "status = 'changed'",
                _ => "status = 'changed', amount = amount + 1",
            };
            format!("update {TABLE} set {set} where {condition}")
        };
        let scattered = match self {
            Self::TextKey => "line = 1 and right(code, 4)::int % 477 = 7",
            _ => "id % 1430 = 7",
        };
        match self {
            Self::Same => Vec::new(),
            Self::Clustered => {
                let (from, to) = (rows / 2, rows / 2 + rows * 7 / 10_000);
                vec![update(&format!("id >= {from} and id < {to}"))]
            }
            Self::Tenth => vec![update("id % 10 = 7")],
            Self::Half => vec![update("id % 2 = 1")],
            Self::Scattered | Self::Wide | Self::Toasted | Self::TextKey => vec![update(scattered)],
            Self::Rewritten => {
                vec![update(scattered), format!("vacuum full {TABLE}"), "analyze".to_owned()]
            }
            Self::Tables => std::iter::once(TABLE.to_owned())
                .chain((1..=MORE_TABLES).map(|n| format!("{TABLE}_{n}")))
                .map(|table| format!("update {table} set status = 'changed' where id = 1"))
                .collect(),
        }
    }
}

/// Five columns, with the key about 160 bytes a row, page overhead included.
const PLAIN: &str = "customer int not null, status text not null, amount numeric(12,2) not null, \
                     placed_at timestamptz not null, note text not null";
const PLAIN_VALUES: &str = "((i::int8 * 7919) % 100003)::int, (array['new', 'paid', 'sent', 'done'])[1 + i % 4], \
                            (i % 90000) / 100.0 + 1, timestamptz '2024-01-01' + i * interval '7 s', \
                            'order note ' || md5(i::text) || ' ' || md5((i + 1)::text)";
