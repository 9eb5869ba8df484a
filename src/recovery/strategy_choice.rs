//! By which strategy a table is compared, and why.

use super::diagnosis;
use super::ranges::{BLOCK, WORTH_A_RANGE, block_range, bytes, bytes_a_second, tables};
use super::set_up::connect_both;
use crate::catalog::{Key, SameStorage, TablePair};
use crate::diff::{self, BlockRange, Tables};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Request, Strategy, StrategyChoice};
use crate::postgres::Session;
use crate::preflight::{PreflightReport, Servers};

/// How a table is compared.
pub(super) struct Choice {
    pub(super) strategy: Strategy,
    pub(super) reason: String,
    /// For `row-versions`: what holds the rows.
    pub(super) storage: Vec<SameStorage>,
    /// What kept the table from being looked at. Comparing it will meet that too, and fail it by itself.
    pub(super) warning: Option<String>,
}

/// How each pair is compared.
///
/// # Errors
/// A server cannot be asked how much of a large table changed.
pub(super) async fn choices(
    servers: &Servers,
    checked: &PreflightReport,
    request: &Request,
) -> Result<Vec<Choice>> {
    let mut choices: Vec<Choice> =
        checked.pairs.iter().map(|pair| choose(checked, request, pair)).collect();
    let questionable = |pair: &TablePair, choice: &Choice| {
        let blocks = choice.storage.first().map_or(0, |relation| relation.blocks);
        request.strategy == StrategyChoice::Auto
            && choice.strategy == Strategy::RowVersions
            && choice.storage.len() == 1
            && u64::from(blocks) * BLOCK >= WORTH_A_RANGE
            && pair.same_order().is_ok()
    };
    let mut sessions = None;
    for (pair, choice) in checked.pairs.iter().zip(&mut choices) {
        let Key::Columns(key) = &pair.table.key else { continue };
        if !questionable(pair, choice) {
            continue;
        }
        let (base, head) = match &mut sessions {
            Some(sessions) => sessions,
            none => none.insert(connect_both(servers, PLANNING).await?),
        };
        let range = block_range(checked, request, pair, &choice.storage[0], 0..u32::MAX);
        let share = match changed_share(base, head, pair, key[0], &range).await {
            Err(error) => {
                choice.warning = Some(unreadable(servers, &tables(pair, None), error).await?);
                continue;
            }
            Ok(share) => share,
        };
        if let Some(share) = share.filter(|share| *share >= MERGED_FROM) {
            *choice = Choice {
                strategy: Strategy::Content,
                reason: format!(
                    "row versions are comparable, but about {:.0} % of them changed, and the rows \
                     lie in the order of their key: merged by key",
                    100.0 * share
                ),
                storage: Vec::new(),
                warning: None,
            };
        }
    }
    if let Some((base, head)) = sessions {
        tokio::join!(base.close(), head.close());
    }
    Ok(choices)
}

/// The share of row versions that one side alone has, of a table whose rows lie in the order of its
/// key; `None` of any other.
async fn changed_share(
    base: &mut Session,
    head: &mut Session,
    pair: &TablePair,
    column: usize,
    range: &BlockRange,
) -> Result<Option<f64>> {
    let tables = tables(pair, None);
    if !diff::follows_its_key(base, &tables, column).await? {
        return Ok(None);
    }
    let (mut on_base, mut on_head) = tokio::try_join!(diff::snapshot(base), diff::snapshot(head))?;
    let both = diff::Sessions { base: &mut on_base, head: &mut on_head };
    let share = diff::changed_share(both, &tables, range).await;
    let _ = tokio::join!(on_base.rollback(), on_head.rollback());
    share.map(Some)
}

/// `application_name` of the sessions that plan.
pub(super) const PLANNING: &str = "deltacompare plan";

/// A warning of a table that could not be looked at while the plan was made.
///
/// # Errors
/// The error itself, if it is not one of this table alone.
pub(super) async fn unreadable(servers: &Servers, tables: &Tables, error: Error) -> Result<String> {
    if error.kind() != ErrorKind::Item || error.raised_on().is_none() {
        return Err(error);
    }
    Ok(diagnosis::explained(servers, PLANNING, tables, error).await.to_string())
}

/// Share of row versions on one side only from which reading a table in the order of its key is
/// faster than looking for the other version of each.
const MERGED_FROM: f64 = 0.25;

/// Partitions from which it is asked what each of them costs.
const MANY_PARTITIONS: usize = 100;

/// What a partition costs as a work item of its own, in seconds.
const PARTITION_SECONDS: f64 = 0.02;

/// What a partition costs in each step of `content`, whose queries go through the root and plan all of
/// its partitions, in seconds.
const PLANNED_SECONDS: f64 = 50e-6;

/// Rows of a step of `content`.
const STEP_ROWS: f64 = 8192.0;

/// Whether reading all of a table costs less than what its many partitions cost in this strategy.
fn costs_more_than_full(
    strategy: Strategy,
    partitions: usize,
    bytes: u64,
    rows: Option<u64>,
) -> bool {
    let partitions_cost = match strategy {
        Strategy::RowVersions => PARTITION_SECONDS,
        // Where nobody has counted them, so many as rows of fifty bytes would be.
        Strategy::Content => rows.unwrap_or(bytes / 50) as f64 / STEP_ROWS * PLANNED_SECONDS,
        Strategy::Full => return false,
    } * partitions as f64;
    let seconds = |strategy| bytes as f64 / bytes_a_second(strategy);
    partitions >= MANY_PARTITIONS && seconds(strategy) + partitions_cost > seconds(Strategy::Full)
}

/// The same of one pair, by what the preflight knows of it.
pub(super) fn choose(checked: &PreflightReport, request: &Request, pair: &TablePair) -> Choice {
    let choice = by_state(checked, request, pair);
    let partitions = checked.partitions(pair);
    let each_by_itself = pair.sound_index().is_ok() && pair.same_order().is_ok();
    if request.strategy != StrategyChoice::Auto
        || pair.table.key == Key::WholeRow
        || !each_by_itself
        || !costs_more_than_full(choice.strategy, partitions, bytes(pair), pair.head.rows)
    {
        return choice;
    }
    let reason = format!(
        "{}, but it is in {partitions} partitions, and to read all rows costs less than to look \
         into each of these by {}",
        choice.reason,
        choice.strategy.as_str()
    );
    Choice { strategy: Strategy::Full, reason, storage: Vec::new(), warning: None }
}

/// The first strategy that a table's state allows.
fn by_state(checked: &PreflightReport, request: &Request, pair: &TablePair) -> Choice {
    let with =
        |strategy, reason: String| Choice { strategy, reason, storage: Vec::new(), warning: None };
    if request.strategy == StrategyChoice::Full {
        return with(Strategy::Full, "asked for".to_owned());
    }
    let row_versions = if request.strategy == StrategyChoice::Content {
        Err("content was asked for".to_owned())
    } else {
        checked.same_rows(pair)
    };
    match row_versions {
        Ok(storage) => Choice {
            strategy: Strategy::RowVersions,
            reason: match pair.sound_index() {
                Ok(()) => "row versions are comparable".to_owned(),
                Err(unsound) => {
                    format!(
                        "row versions are comparable; matched without an index, since {unsound}"
                    )
                }
            },
            storage,
            warning: None,
        },
        Err(reason) if pair.base.is_none() => {
            let not_on_base = "it is not on base";
            if reason == not_on_base {
                with(Strategy::Full, reason)
            } else {
                with(Strategy::Full, format!("{reason}; {not_on_base}"))
            }
        }
        Err(reason) => match pair.same_order() {
            Ok(()) => with(Strategy::Content, reason),
            Err(unknown) => with(
                Strategy::Content,
                format!("{reason}; compared by a hash of its key, since {unknown}"),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_partitions_are_read_as_one_table() {
        const MB: u64 = 1 << 20;
        for (strategy, partitions, bytes, full) in [
            (Strategy::RowVersions, 1, 0, false),
            (Strategy::RowVersions, 99, MB, false),
            (Strategy::RowVersions, 100, MB, true),
            (Strategy::RowVersions, 3000, 150 * MB, true),
            (Strategy::RowVersions, 3000, 100_000 * MB, false),
            (Strategy::Content, 3000, 150 * MB, true),
            (Strategy::Content, 100, 150 * MB, false),
            (Strategy::Full, 3000, MB, false),
        ] {
            let chosen = costs_more_than_full(strategy, partitions, bytes, Some(bytes / 50));
            assert_eq!(chosen, full, "{strategy:?} {partitions} {bytes}");
        }
    }
}
