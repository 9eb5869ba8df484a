//! Random tables.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::values::{TYPES, Type};
use crate::support::{TableName, quoted};

/// What the tables need besides themselves.
pub(super) const PRELUDE: &str = r#"
    create schema "Zweites ""Schema""; drop table x; --";
    create type public.mood as enum ('sad', 'ok', 'Happy ''n'' "free"', '');
    create domain public.amount as numeric(12, 3);
    create domain public.word as text check (length(value) < 100000);
    create type "Zweites ""Schema""; drop table x; --".pair as (n int, "T t" text);
"#;

/// Operators on the user's types, and functions with names of ours, all of them wrong.
pub(super) const OPERATORS: &str = r#"
    create function public.never(public.mood, public.mood) returns bool
      language sql immutable as 'select false';
    create operator public.= (leftarg = public.mood, rightarg = public.mood,
                              function = public.never);
    create function public.never(public.word, public.word) returns bool
      language sql immutable as 'select false';
    create operator public.= (leftarg = public.word, rightarg = public.word,
                              function = public.never);
    create function public.print(public.mood) returns text strict immutable language sql
      as 'select ''another''::text';
    create cast (public.mood as text) with function public.print(public.mood) as assignment;
    create function public.textin(text) returns text language sql immutable
      as 'select ''another''::text';
    create function public.format(text, anyelement) returns text language sql immutable
      as 'select ''another''::text';
    create function public.num_nulls(anyelement) returns int language sql immutable
      as 'select 1';
    create function public.hashtextextended(text, bigint) returns bigint language sql immutable
      as 'select 1::bigint';
    create function public.int8out(bigint) returns text language sql immutable
      as 'select ''another''::text';
"#;

const SCHEMAS: [&str; 2] = ["public", r#"Zweites "Schema"; drop table x; --"#];

/// Names that a careless program would trip over: SQL in them, reserved words, its own words.
pub(super) const NAMES: [&str; 35] = [
    "id",
    "a",
    "A",
    "b",
    "h",
    "key",
    "image",
    "copies",
    "side",
    "select",
    "from",
    "user",
    "table",
    "order",
    "ordinal",
    "before",
    "after",
    "op",
    "schema",
    "null",
    "value",
    "at",
    "with space",
    r#"quo"te"#,
    "quo'te",
    r"back\slash",
    "$1",
    "%s",
    "{}",
    "ünï🎉",
    "new\nline",
    "tab\there",
    ".",
    r#"x"; drop table y; --"#,
    "sixty-three bytes: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// A column; `kept` ones are in the table until its end.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) of: &'static Type,
    pub(super) not_null: bool,
}

/// What identifies a row downstream.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// Positions of columns.
    Primary(Vec<usize>),
    /// A unique index as the replica identity; perhaps with a primary key besides.
    Index(Vec<usize>),
    /// The same with a primary key on these columns, which the index outranks.
    IndexOverPrimary(Vec<usize>, Vec<usize>),
    /// The whole row, although there is a primary key.
    FullOverPrimary(Vec<usize>),
    /// The whole row.
    Full,
    /// Nothing at all.
    None,
    /// A primary key, but the replica identity is `nothing`.
    Nothing(Vec<usize>),
}

impl Key {
    /// Whether PostgreSQL takes updates and deletes once the table is published.
    pub(super) fn identifies(&self) -> bool {
        !matches!(self, Self::None | Self::Nothing(_))
    }

    /// The columns that may not be null.
    fn columns(&self) -> Vec<usize> {
        match self {
            Self::Primary(key) | Self::Index(key) | Self::FullOverPrimary(key) => key.clone(),
            Self::Nothing(key) => key.clone(),
            Self::IndexOverPrimary(one, two) => {
                let both: BTreeSet<usize> = one.iter().chain(two).copied().collect();
                both.into_iter().collect()
            }
            Self::Full | Self::None => Vec::new(),
        }
    }
}

/// A random table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) columns: Vec<Column>,
    pub(super) key: Key,
    /// Before which columns one was, that is dropped before (true) or after data came.
    pub(super) dropped: Vec<(usize, bool)>,
}

impl Table {
    pub(super) fn create(&self) -> Vec<String> {
        let mut columns = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            for (number, _) in
                self.dropped.iter().enumerate().filter(|(_, (place, _))| *place == at)
            {
                columns.push(format!("\"dropped {number}\" text default 'x'"));
            }
            columns.push(format!(
                "{} {}{}",
                quoted(&column.name),
                column.of.declared,
                if column.not_null { " not null" } else { "" }
            ));
        }
        let name = &self.name;
        let mut statements = vec![format!("create table {name} ({})", columns.join(", "))];
        let list = |key: &[usize]| {
            let names: Vec<_> = key.iter().map(|&at| quoted(&self.columns[at].name)).collect();
            names.join(", ")
        };
        let primary = |key: &[usize]| format!("alter table {name} add primary key ({})", list(key));
        let identity = |what: &str| format!("alter table {name} replica identity {what}");
        // Names of indexes are unique in their schema.
        let index = quoted(&format!("i {}", &self.name.name.chars().take(30).collect::<String>()));
        let unique =
            |key: &[usize]| format!("create unique index {index} on {name} ({})", list(key));
        let using = || identity(&format!("using index {index}"));
        statements.extend(match &self.key {
            Key::Primary(key) => vec![primary(key)],
            Key::Index(key) => vec![unique(key), using()],
            Key::IndexOverPrimary(key, own) => vec![primary(own), unique(key), using()],
            Key::FullOverPrimary(key) => vec![primary(key), identity("full")],
            Key::Full => vec![identity("full")],
            Key::None => vec![],
            Key::Nothing(key) => vec![primary(key), identity("nothing")],
        });
        statements
    }

    /// Drops the columns of this kind.
    pub(super) fn drop_columns(&self, before_data: bool) -> Vec<String> {
        self.dropped
            .iter()
            .enumerate()
            .filter(|(_, (_, first))| *first == before_data)
            .map(|(number, _)| {
                format!("alter table {} drop column \"dropped {number}\"", self.name)
            })
            .collect()
    }

    pub(super) fn key_columns(&self) -> Vec<usize> {
        self.key.columns()
    }
}

/// A table whose name no other number's has.
pub(super) fn table(number: usize) -> impl Strategy<Value = Table> {
    let columns = prop::collection::vec((0..TYPES.len(), any::<bool>()), 1..=8);
    let names = subsequence(&NAMES[..], 8).prop_shuffle();
    // Every name comes twice: once in each schema.
    let base = NAMES[number / 2 % NAMES.len()];
    let round = number / 2 / NAMES.len();
    let name = if round == 0 { base.to_owned() } else { format!("{base}{round}") };
    let name = TableName::new(SCHEMAS[number % 2], &name);
    let dropped = prop::collection::vec((any::<Index>(), any::<bool>()), 0..3);
    (columns, names, 0..9, any::<[Index; 3]>(), dropped).prop_map(
        move |(columns, names, kind, picks, dropped)| {
            let mut columns: Vec<Column> = columns
                .into_iter()
                .zip(names)
                .map(|((of, not_null), name)| Column {
                    name: name.to_owned(),
                    of: &TYPES[of],
                    not_null,
                })
                .collect();
            let ordered: Vec<usize> =
                (0..columns.len()).filter(|&at| columns[at].of.ordered).collect();
            let pick = |index: &Index| *index.get(&ordered);
            let key = if ordered.is_empty() {
                if kind % 2 == 0 { Key::Full } else { Key::None }
            } else {
                let mut two = vec![pick(&picks[0]), pick(&picks[1])];
                two.dedup();
                match kind {
                    0 => Key::Primary(vec![two[0]]),
                    1 | 2 => Key::Primary(two),
                    3 => Key::Index(two),
                    4 => Key::IndexOverPrimary(vec![two[0]], vec![pick(&picks[2])]),
                    5 => Key::FullOverPrimary(two),
                    6 => Key::Full,
                    7 => Key::None,
                    _ => Key::Nothing(vec![two[0]]),
                }
            };
            for at in key.columns() {
                columns[at].not_null = true;
            }
            let dropped =
                dropped.into_iter().map(|(at, first)| (at.index(columns.len()), first)).collect();
            Table { name: name.clone(), columns, key, dropped }
        },
    )
}
