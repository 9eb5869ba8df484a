//! What a recovery would do: each table, how it is diffed and why, how big it is.

use serde::Serialize;

use super::request::{Request, StrategyChoice};
use super::work_item::WorkItemSpec;
use crate::catalog::{TableName, TablePair};
use crate::diff::{Strategy, Tables};
use crate::error::Result;
use crate::fdw::{ForeignTable, Link};
use crate::lineage::Lsn;
use crate::preflight::{self, Checked, Servers};
use crate::sql::Relation;

/// What `deltacompare plan` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// What an operator should know about the recovery as a whole.
    pub warnings: Vec<String>,
    /// Where base's and head's recovery ended, if their histories could be read and agree.
    pub ends: Option<(Lsn, Lsn)>,
    /// The tables, by name.
    pub tables: Vec<PlanTable>,
}

/// One table of a [`Plan`].
#[derive(Clone, Debug, Serialize)]
pub struct PlanTable {
    /// Its name on head.
    #[serde(flatten)]
    pub name: TableName,
    /// How it would be diffed.
    pub strategy: Strategy,
    /// Why so.
    pub strategy_reason: String,
    /// Columns compared.
    pub columns: usize,
    /// The columns that pair rows; empty for a table without a key.
    pub key: Vec<String>,
    /// Head's planner's row count; `None` if never counted.
    pub rows: Option<u64>,
    /// The larger side's size on disk in bytes, TOAST included, indexes not.
    pub bytes: u64,
    /// What an operator should know about this table.
    pub warnings: Vec<String>,
}

/// A table as the store takes it.
#[derive(Clone, Debug)]
pub(crate) struct PlannedTable {
    pub(crate) spec: WorkItemSpec,
    pub(crate) strategy_reason: String,
    pub(crate) bytes: u64,
    pub(crate) warnings: Vec<String>,
}

/// What would be compared, how, how big, and every warning. Changes nothing on either server.
///
/// # Errors
/// As [`run`](super::run) would refuse the request.
pub async fn plan(servers: &Servers, request: &Request) -> Result<Plan> {
    let checked = preflight::check(servers, request).await?;
    let tables = checked
        .pairs
        .iter()
        .map(|pair| {
            let (strategy, strategy_reason) = strategy(request);
            PlanTable {
                name: pair.table.name.clone(),
                strategy,
                strategy_reason,
                columns: pair.table.columns.len(),
                key: key_names(pair),
                rows: pair.head.rows,
                bytes: bytes(pair),
                warnings: pair.warnings.clone(),
            }
        })
        .collect();
    Ok(Plan { warnings: checked.warnings, ends: checked.ends, tables })
}

/// The work items of a checked request, largest first, so that the longest does not start last.
pub(crate) fn planned_tables(
    checked: &Checked,
    request: &Request,
    link: &Link,
) -> Vec<PlannedTable> {
    let mut tables: Vec<PlannedTable> = checked
        .pairs
        .iter()
        .map(|pair| {
            let (strategy, strategy_reason) = strategy(request);
            let foreign = ForeignTable::of(link, pair);
            PlannedTable {
                spec: WorkItemSpec {
                    strategy,
                    tables: Tables {
                        table: pair.table.clone(),
                        head: Relation::from(&pair.head.name),
                        head_only: pair.head_only(),
                        head_filter: pair.published.filter.clone(),
                        base: foreign.as_ref().map(|foreign| foreign.relation.clone()),
                    },
                    foreign,
                    head_oid: pair.head.oid,
                    base_oid: pair.base.as_ref().map(|base| base.oid),
                },
                strategy_reason,
                bytes: bytes(pair),
                warnings: pair.warnings.clone(),
            }
        })
        .collect();
    tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
    tables
}

fn strategy(request: &Request) -> (Strategy, String) {
    match request.strategy {
        StrategyChoice::Full => (Strategy::Full, "asked for".to_owned()),
        StrategyChoice::Auto => (Strategy::Full, "works for every table".to_owned()),
    }
}

fn key_names(pair: &TablePair) -> Vec<String> {
    match &pair.table.key {
        crate::catalog::Key::Columns(positions) => {
            positions.iter().map(|&at| pair.table.columns[at].name.clone()).collect()
        }
        crate::catalog::Key::WholeRow => Vec::new(),
    }
}

fn bytes(pair: &TablePair) -> u64 {
    pair.head.bytes.max(pair.base.as_ref().map_or(0, |base| base.bytes))
}
