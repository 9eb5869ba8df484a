//! Things that happen in the shop.

use anyhow::Result;
use deltacompare_testbed::{Production, Role};

use crate::tally::{Op, Tally};

/// One transaction that changes rows of one table.
pub(crate) struct Transaction {
    /// For people; what happens, not how.
    pub(crate) what: &'static str,
    pub(crate) table: &'static str,
    pub(crate) op: Op,
    pub(crate) sql: String,
}

impl Transaction {
    pub(crate) fn insert(what: &'static str, table: &'static str, sql: String) -> Self {
        Self { what, table, op: Op::Insert, sql }
    }

    pub(crate) fn update(what: &'static str, table: &'static str, set: String) -> Self {
        Self { what, table, op: Op::Update, sql: format!("update {table} set {set}") }
    }

    pub(crate) fn delete(what: &'static str, table: &'static str, condition: String) -> Self {
        Self { what, table, op: Op::Delete, sql: format!("delete from {table} where {condition}") }
    }
}

/// Does them in order, and counts the rows.
pub(crate) async fn play(production: &Production, transactions: &[Transaction]) -> Result<Tally> {
    let connection = production.connect_as(Role::Admin).await?;
    let mut tally = Tally::default();
    for transaction in transactions {
        tally.add(
            transaction.table,
            transaction.op,
            connection.execute(&transaction.sql, &[]).await?,
        );
    }
    connection.close().await?;
    Ok(tally)
}
