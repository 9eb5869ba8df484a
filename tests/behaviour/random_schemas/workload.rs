//! What happens to a random table, before and in the gap.

use proptest::prelude::*;
use proptest::sample::Index;

use super::schema::{self, Table};
use crate::support::{literal, quoted};

type Values = Vec<Option<String>>;

/// A table, the rows it begins with, and what happens to it in the gap.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) table: Table,
    rows: Vec<Values>,
    transactions: Vec<Transaction>,
}

#[derive(Clone, Debug)]
enum Transaction {
    Commit(Vec<Step>),
    Rollback(Vec<Step>),
    /// The second part is rolled back to a savepoint.
    Savepoint(Vec<Step>, Vec<Step>, Vec<Step>),
}

/// The row is the n-th where it lies, modulo their number.
#[derive(Clone, Debug)]
enum Step {
    Insert(Values),
    Update {
        row: u32,
        column: Index,
        to: Values,
    },
    /// All columns of the key.
    Rekey {
        row: u32,
        to: Values,
    },
    /// Nothing changes but where the row lies.
    Touch {
        row: u32,
    },
    /// Numbers get another zero at their end, or the same update as `Touch`.
    Rescale {
        row: u32,
    },
    Delete {
        row: u32,
    },
    /// The key comes back at once with other values.
    Replace {
        row: u32,
        to: Values,
    },
    Copy {
        row: u32,
    },
    TruncateAndReload(Vec<Values>),
    /// Delete them all and insert them again, the same.
    Rewrite,
}

impl Story {
    /// Statements before the gap.
    pub(super) fn before(&self) -> Vec<String> {
        let mut statements = self.table.create();
        statements.extend(self.table.drop_columns(true));
        statements.extend(self.rows.iter().map(|row| self.sql(&Step::Insert(row.clone()))));
        statements.extend(self.table.drop_columns(false));
        vec![statements.join(";\n")]
    }

    /// Transactions in the gap.
    pub(super) fn during(&self) -> Vec<String> {
        let all =
            |steps: &[Step]| steps.iter().map(|step| self.sql(step) + ";\n").collect::<String>();
        self.transactions
            .iter()
            .map(|transaction| match transaction {
                Transaction::Commit(steps) => all(steps),
                Transaction::Rollback(steps) => format!("begin; {} rollback", all(steps)),
                Transaction::Savepoint(one, undone, two) => format!(
                    "begin; {} savepoint s; {} rollback to s; {} commit",
                    all(one),
                    all(undone),
                    all(two)
                ),
            })
            .collect()
    }

    fn value(&self, column: usize, value: &Option<String>) -> String {
        match value {
            None => "null".to_owned(),
            Some(text) => format!("{}::{}", literal(text), self.table.columns[column].of.declared),
        }
    }

    fn names(&self) -> Vec<String> {
        self.table.columns.iter().map(|column| quoted(&column.name)).collect()
    }

    fn insert(&self, values: &Values) -> String {
        let values: Vec<_> = values.iter().enumerate().map(|(at, v)| self.value(at, v)).collect();
        format!(
            "insert into {} ({}) values ({})",
            self.table.name,
            self.names().join(", "),
            values.join(", ")
        )
    }

    /// The condition for one row.
    fn at(&self, row: u32) -> String {
        let table = &self.table.name;
        format!(
            "ctid = (select ctid from {table} order by ctid \
             offset {row} % (select greatest(count(*), 1) from {table}) limit 1)"
        )
    }

    /// One step. What a unique index forbids does not happen.
    fn sql(&self, step: &Step) -> String {
        let table = &self.table.name;
        let names = self.names();
        let update = |row: u32, set: Vec<String>| {
            format!("update {table} set {} where {}", set.join(", "), self.at(row))
        };
        let touch = |row| update(row, vec![format!("{0} = {0}", names[0])]);
        let statement = match step {
            Step::Insert(values) => self.insert(values),
            Step::Update { row, column, to } => {
                let at = column.index(names.len());
                update(*row, vec![format!("{} = {}", names[at], self.value(at, &to[at]))])
            }
            Step::Rekey { row, to } => {
                let key = self.table.key_columns();
                match key.is_empty() {
                    true => touch(*row),
                    false => update(
                        *row,
                        key.iter()
                            .map(|&at| format!("{} = {}", names[at], self.value(at, &to[at])))
                            .collect(),
                    ),
                }
            }
            Step::Touch { row } => touch(*row),
            Step::Rescale { row } => {
                let numbers = (0..names.len())
                    .filter(|&at| self.table.columns[at].of.declared == "numeric")
                    .map(|at| format!("{0} = {0} * 1.0", names[at]))
                    .collect::<Vec<_>>();
                if numbers.is_empty() { touch(*row) } else { update(*row, numbers) }
            }
            Step::Delete { row } => format!("delete from {table} where {}", self.at(*row)),
            Step::Replace { row, to } => {
                let key = self.table.key_columns();
                let values: Vec<_> = (0..names.len())
                    .map(|at| match key.contains(&at) {
                        true => format!("gone.{}", names[at]),
                        false => self.value(at, &to[at]),
                    })
                    .collect();
                format!(
                    "with gone as (delete from {table} where {} returning *) \
                     insert into {table} ({}) select {} from gone",
                    self.at(*row),
                    names.join(", "),
                    values.join(", ")
                )
            }
            Step::Copy { row } => format!(
                "insert into {table} ({0}) select {0} from {table} where {1}",
                names.join(", "),
                self.at(*row)
            ),
            Step::TruncateAndReload(rows) => {
                let rows = rows.iter().map(|row| self.sql(&Step::Insert(row.clone())));
                return format!("truncate {table};\n{}", rows.collect::<Vec<_>>().join(";\n"))
                    .trim_end_matches([';', '\n'])
                    .to_owned();
            }
            Step::Rewrite => format!(
                "with gone as (delete from {table} returning *) \
                 insert into {table} ({0}) select {0} from gone",
                names.join(", ")
            ),
        };
        format!(
            "do $step$ begin {statement}; \
             exception when unique_violation or program_limit_exceeded then null; end $step$"
        )
    }
}

/// A story about the table with this number.
pub(super) fn story(number: usize) -> impl Strategy<Value = Story> {
    schema::table(number).prop_flat_map(|table| {
        let row = values(&table);
        let rows = prop::collection::vec(row.clone(), 0..60);
        let steps = |up_to| prop::collection::vec(step(row.clone()), 0..up_to);
        let transaction = prop_oneof![
            24 => steps(20).prop_map(Transaction::Commit),
            4 => steps(4).prop_map(Transaction::Rollback),
            8 => (steps(8), steps(4), steps(8))
                .prop_map(|(a, b, c)| Transaction::Savepoint(a, b, c)),
            1 => rows.clone()
                .prop_map(|rows| Transaction::Commit(vec![Step::TruncateAndReload(rows)])),
        ];
        let transactions = prop::collection::vec(transaction, 0..15);
        (Just(table), rows, transactions).prop_map(|(table, rows, transactions)| Story {
            table,
            rows,
            transactions,
        })
    })
}

/// A row's values, a null where the column allows it.
fn values(table: &Table) -> BoxedStrategy<Values> {
    table
        .columns
        .iter()
        .map(|column| column.of.nullable(column.not_null))
        .collect::<Vec<_>>()
        .boxed()
}

/// Mostly updates: what happens to a row last hides what happened before.
fn step(row: BoxedStrategy<Values>) -> BoxedStrategy<Step> {
    let at = 0..1000u32;
    prop_oneof![
        20 => row.clone().prop_map(Step::Insert),
        40 => (at.clone(), any::<Index>(), row.clone())
            .prop_map(|(row, column, to)| Step::Update { row, column, to }),
        10 => (at.clone(), row.clone()).prop_map(|(row, to)| Step::Rekey { row, to }),
        6 => at.clone().prop_map(|row| Step::Touch { row }),
        8 => at.clone().prop_map(|row| Step::Rescale { row }),
        8 => at.clone().prop_map(|row| Step::Delete { row }),
        6 => (at.clone(), row).prop_map(|(row, to)| Step::Replace { row, to }),
        4 => at.prop_map(|row| Step::Copy { row }),
        1 => Just(Step::Rewrite),
    ]
    .boxed()
}
