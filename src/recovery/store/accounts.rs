//! How the accounts of tables came out.

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use super::Store;
use crate::error::Result;
use crate::model::TableName;
use crate::postgres::from_row;

/// Published rows of base and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) base: u64,
    pub(crate) head: u64,
}

/// How a table's account came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableAccount {
    /// `None` if nobody counted them.
    pub(crate) rows: Option<Rows>,
    /// 0 if it balances; `None` if rows were not counted.
    pub(crate) balance: Option<i64>,
    /// Why the table's events are not to be trusted, if so.
    pub(crate) error: Option<String>,
}

struct AccountRow {
    schema_name: String,
    table_name: String,
    rows_base: Option<i64>,
    rows_head: Option<i64>,
    balance: Option<i64>,
    error: Option<String>,
}

from_row!(AccountRow { schema_name, table_name, rows_base, rows_head, balance, error });

impl Store {
    /// The accounts of a recovery's tables that were taken so far.
    pub(crate) async fn accounts(
        &self,
        recovery: Uuid,
    ) -> Result<BTreeMap<TableName, TableAccount>> {
        let rows: Vec<AccountRow> = self
            .pool
            .query(
                r#"
                select schema_name, table_name, rows_base, rows_head, balance, error
                  from deltacompare.account
                 where recovery_id = $1
                "#,
                &[&recovery],
            )
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let rows = row.rows_base.zip(row.rows_head);
                let account = TableAccount {
                    rows: rows.map(|(base, head)| Rows { base: base as u64, head: head as u64 }),
                    balance: row.balance,
                    error: row.error,
                };
                (TableName { schema: row.schema_name, name: row.table_name }, account)
            })
            .collect())
    }

    /// Stores a table's account, and a warning of it with one of its items. A repetition changes
    /// nothing.
    pub(crate) async fn put_account(
        &self,
        recovery: Uuid,
        table: &TableName,
        account: &TableAccount,
        warning: Option<&str>,
    ) -> Result<()> {
        self.pool
            .execute(
                r#"
                with taken as (
                  insert into deltacompare.account
                    (recovery_id, schema_name, table_name, rows_base, rows_head, balance, error)
                  values ($1, $2, $3, $4, $5, $6, $7)
                  on conflict do nothing
                  returning recovery_id, schema_name, table_name
                )
                update deltacompare.work_item i
                   set warnings = i.warnings || $8
                  from taken t
                 where $8::jsonb <> '[]' and i.recovery_id = t.recovery_id
                   and i.number = (select min(number) from deltacompare.work_item f
                                    where f.recovery_id = t.recovery_id
                                      and f.schema_name = t.schema_name
                                      and f.table_name = t.table_name)
                "#,
                &[
                    &recovery,
                    &table.schema,
                    &table.name,
                    &account.rows.map(|rows| rows.base as i64),
                    &account.rows.map(|rows| rows.head as i64),
                    &account.balance,
                    &account.error,
                    &json!(Vec::from_iter(warning)),
                ],
            )
            .await?;
        Ok(())
    }
}
