//! How the accounts of tables came out.

use std::collections::BTreeMap;

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

    /// Stores accounts of tables, and a warning of a table with one of its items. A repetition changes
    /// nothing.
    pub(crate) async fn put_accounts(
        &self,
        recovery: Uuid,
        accounts: &[(&TableName, TableAccount, Option<String>)],
    ) -> Result<()> {
        let (mut schemas, mut tables) = (Vec::new(), Vec::new());
        let (mut rows_base, mut rows_head) = (Vec::new(), Vec::new());
        let (mut balances, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for (table, account, warning) in accounts {
            schemas.push(table.schema.as_str());
            tables.push(table.name.as_str());
            rows_base.push(account.rows.map(|rows| rows.base as i64));
            rows_head.push(account.rows.map(|rows| rows.head as i64));
            balances.push(account.balance);
            errors.push(account.error.as_deref());
            warnings.push(warning.as_deref());
        }
        self.pool
            .execute(
                r#"
                with account as (
                  select *
                    from unnest($2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[],
                                $7::text[], $8::text[])
                           as a (schema_name, table_name, rows_base, rows_head, balance, error,
                                 warning)
                ), taken as (
                  insert into deltacompare.account
                    (recovery_id, schema_name, table_name, rows_base, rows_head, balance, error)
                  select $1, schema_name, table_name, rows_base, rows_head, balance, error
                    from account
                  on conflict do nothing
                  returning schema_name, table_name
                )
                update deltacompare.work_item i
                   set warnings = i.warnings || to_jsonb(a.warning)
                  from account a
                  join taken t using (schema_name, table_name)
                 where a.warning is not null and i.recovery_id = $1
                   and i.number = (select min(number) from deltacompare.work_item f
                                    where f.recovery_id = $1
                                      and f.schema_name = a.schema_name
                                      and f.table_name = a.table_name)
                "#,
                &[
                    &recovery, &schemas, &tables, &rows_base, &rows_head, &balances, &errors,
                    &warnings,
                ],
            )
            .await?;
        Ok(())
    }
}
