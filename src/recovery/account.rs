//! The account of a table: `inserts − deletes = rows of head − rows of base`.
//!
//! It is taken once every work item of the table has ended, over all that was found, whether it is
//! sent or not. Rows are counted by a statement that shares nothing with the strategy
//! ([`diff::count_rows`]), except in large tables that were compared by row versions: these were
//! counted on the way, and are counted again only where the figures are doubtful or
//! [`Verify::Count`] asks for it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::diagnosis;
use super::engine::Deadline;
use super::progress::Progress;
use super::request::Verify;
use super::sequences::{Sequences, came_and_went};
use super::set_up::connect_both;
use super::store::{Store, StoredRecovery};
use super::work_item::{ItemState, WorkItem};
use crate::catalog::TableName;
use crate::diff::{self, RowChange, RowsPassed, Strategy, Tables};
use crate::error::{ErrorKind, Result};
use crate::postgres::Session;
use crate::preflight::Servers;

/// Bytes of a table that are counted in a moment, whatever its strategy.
const SMALL: u64 = 64 << 20;

/// Bytes of a block, unless PostgreSQL was built otherwise.
const BLOCK: u64 = 8192;

/// What a work item adds to its table's account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ItemAccount {
    /// Inserts that were found.
    pub(crate) inserts: u64,
    /// Deletes that were found.
    pub(crate) deletes: u64,
    /// Rows that the strategy passed, if it counts them.
    #[serde(default)]
    pub(crate) passed: Option<RowsPassed>,
}

impl ItemAccount {
    /// Adds a change that was found.
    pub(crate) fn add(&mut self, row: &RowChange) {
        match row {
            RowChange::Insert(_) => self.inserts += 1,
            RowChange::Delete(_) => self.deletes += 1,
            RowChange::Update { .. } => {}
        }
    }

    /// Adds rows that the strategy passed. An item that was begun without counting them goes on so.
    pub(crate) fn pass(&mut self, rows: RowsPassed, begun: bool) {
        match &mut self.passed {
            Some(passed) => *passed += rows,
            none if !begun => *none = Some(rows),
            _ => {}
        }
    }
}

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

impl TableAccount {
    /// Balances what the items of a table found against its rows, those that were counted by a
    /// statement and those that the strategy passed. `filtered`: not all of the latter are published.
    fn of(items: &[ItemAccount], counted: Option<Rows>, filtered: bool) -> Self {
        let inserts: u64 = items.iter().map(|item| item.inserts).sum();
        let deletes: u64 = items.iter().map(|item| item.deletes).sum();
        let found = difference(inserts, deletes);
        let passed = passed(items);
        let of_passed = passed.map(|passed| Rows { base: passed.base, head: passed.head });
        let of_passed = of_passed.filter(|_| !filtered);
        let rows = counted.or(of_passed);
        let balance = rows.map(|rows| difference(rows.head, rows.base) - found);
        let changes =
            format!("{inserts} inserts less {deletes} deletes were found, which is {found:+}");
        let what = match (rows, counted.zip(of_passed), passed) {
            (Some(rows), ..) if balance != Some(0) => Some(format!(
                "base has {} rows and head {}, which is {:+}, but {changes}",
                rows.base,
                rows.head,
                difference(rows.head, rows.base)
            )),
            (_, Some((counted, passed)), _) if counted != passed => Some(format!(
                "base has {} rows and head {}, but {} and {} row versions were compared",
                counted.base, counted.head, passed.base, passed.head
            )),
            (.., Some(passed)) if difference(passed.head_only, passed.base_only) != found => {
                Some(format!(
                    "base alone has {} row versions and head alone {}, which is {:+}, but {changes}",
                    passed.base_only,
                    passed.head_only,
                    difference(passed.head_only, passed.base_only)
                ))
            }
            _ => None,
        };
        let error = what.map(|what| {
            format!(
                "its account does not balance: {what}; changes are missing or wrong, so do not use \
                 this table's events: keep everybody away from the restores, recover it again with \
                 --strategy full, and report this"
            )
        });
        Self { rows, balance, error }
    }
}

fn difference(more: u64, less: u64) -> i64 {
    more as i64 - less as i64
}

/// The rows that all items of a table passed; `None` if one does not count them.
fn passed(items: &[ItemAccount]) -> Option<RowsPassed> {
    items.iter().try_fold(RowsPassed::default(), |mut all, item| {
        all += item.passed?;
        Some(all)
    })
}

/// Whether a table's rows are to be counted by a statement.
fn is_to_be_counted(items: &[WorkItem], verify: Verify) -> bool {
    let by_row_versions = items.iter().all(|item| item.spec.strategy == Strategy::Identity);
    let bytes: u64 = items.iter().map(|item| item.bytes).sum();
    matches!(verify, Verify::Count | Verify::Full)
        || !by_row_versions
        || bytes <= SMALL
        || items.iter().any(|item| is_doubtful(item.done.account.passed, item.bytes))
        || is_unexpected(items)
}

/// Whether so few rows were passed that most blocks would be empty. They may be: a count tells.
fn is_doubtful(passed: Option<RowsPassed>, bytes: u64) -> bool {
    passed.is_none_or(|passed| passed.base.max(passed.head) < bytes / BLOCK)
}

/// Whether less than half or more than twice the rows were passed that the server expects.
fn is_unexpected(items: &[WorkItem]) -> bool {
    let expected: Option<u64> = items.iter().map(|item| item.rows).sum();
    let accounts: Vec<ItemAccount> = items.iter().map(|item| item.done.account).collect();
    match (expected, passed(&accounts)) {
        (Some(expected), Some(passed)) => {
            passed.head < expected / 2 || passed.head / 2 > expected.saturating_add(1000)
        }
        _ => false,
    }
}

/// Takes the account of each table whose items have all completed, and stores it; what was stored
/// before is not counted again. Yields whether all is done.
///
/// # Errors
/// A server cannot be asked. That a table does not balance is stored, see [`judge`].
pub(super) async fn take(
    servers: &Servers,
    store: &Store,
    recovery: &StoredRecovery,
    progress: &Progress,
    deadline: Option<Deadline>,
) -> Result<bool> {
    let taken = store.accounts(recovery.id).await?;
    let mut open = tables(store.items(recovery.id).await?);
    open.retain(|name, items| !taken.contains_key(name) && all_completed(items));
    if open.is_empty() {
        return Ok(true);
    }
    let both = sessions_without_index(servers).await?;
    let (base_sequences, head_sequences) = sequences(&both, &open).await?;
    let mut sessions = Some(both);
    let mut said = false;
    for (name, items) in open {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline.pause_at) {
            return Ok(false);
        }
        let compared = &items[0].spec.tables;
        let (mut counted, mut error, mut warning) = (None, None, None);
        if is_to_be_counted(&items, recovery.request.verify) {
            if !std::mem::replace(&mut said, true) {
                progress.say("counting rows");
            }
            let mut both = match sessions.take() {
                Some(both) => both,
                None => sessions_without_index(servers).await?,
            };
            match within(deadline, count(&mut both, compared)).await {
                Some(Ok(rows)) => counted = Some(rows),
                Some(Err(failed)) if failed.kind() == ErrorKind::Item => {
                    let failed =
                        diagnosis::explained(servers, "deltacompare account", compared, failed)
                            .await;
                    error = Some(format!("its rows could not be counted: {failed}"));
                }
                Some(Err(failed)) => {
                    return Err(failed.while_doing(format!("counting the rows of {name}")));
                }
                None if recovery.request.verify == Verify::Count => {
                    error = Some(format!("{TOO_LONG}: {LONGER}, then retry"));
                }
                None => warning = Some(format!("{TOO_LONG}, so that it has no account: {LONGER}")),
            }
            sessions = counted.is_some().then_some(both);
        }
        let accounts: Vec<ItemAccount> = items.iter().map(|item| item.done.account).collect();
        let filtered = compared.head.filter.is_some();
        let mut account = TableAccount::of(&accounts, counted, filtered);
        account.error = error.or(account.error);
        let inserts = accounts.iter().map(|account| account.inserts).sum();
        let moved = came_and_went(&items[0], &base_sequences, &head_sequences, inserts);
        let warnings: Vec<String> = warning.into_iter().chain(moved).collect();
        let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        store.put_account(recovery.id, &name, &account, warning.as_deref()).await?;
    }
    if let Some((base, head)) = sessions {
        tokio::join!(base.close(), head.close());
    }
    Ok(true)
}

async fn sessions_without_index(servers: &Servers) -> Result<(Session, Session)> {
    let (base, head) = connect_both(servers, "deltacompare account").await?;
    tokio::try_join!(diff::use_no_index(&base), diff::use_no_index(&head))?;
    Ok((base, head))
}

/// The sequences of these tables, base's and head's.
async fn sequences(
    (base, head): &(Session, Session),
    tables: &BTreeMap<TableName, Vec<WorkItem>>,
) -> Result<(Sequences, Sequences)> {
    let specs = || tables.values().map(|items| &items[0].spec);
    let on_base: Vec<i64> = specs().filter_map(|spec| spec.base_oid).map(i64::from).collect();
    let on_head: Vec<i64> = specs().map(|spec| i64::from(spec.head_oid)).collect();
    tokio::try_join!(Sequences::of(base, &on_base), Sequences::of(head, &on_head))
}

const TOO_LONG: &str = "counting its rows took longer than one message may";
const LONGER: &str = "raise functionTimeout in host.json, or use deltacompare run";

/// Fails the tables whose stored accounts do not balance, if nothing else has failed them.
pub(super) async fn judge(store: &Store, recovery: Uuid) -> Result<()> {
    let accounts = store.accounts(recovery).await?;
    let failed: Vec<(i32, String)> = tables(store.items(recovery).await?)
        .into_iter()
        .filter_map(|(name, items)| Some((accounts.get(&name)?.error.clone()?, items)))
        .flat_map(|(error, items)| items.into_iter().map(move |item| (item.number, error.clone())))
        .collect();
    store.fail_verification(recovery, &failed).await
}

/// Items by table.
pub(super) fn tables(items: Vec<WorkItem>) -> BTreeMap<TableName, Vec<WorkItem>> {
    let mut tables = BTreeMap::<TableName, Vec<WorkItem>>::new();
    for item in items {
        tables.entry(item.spec.tables.table.name.clone()).or_default().push(item);
    }
    tables
}

pub(super) fn all_completed(items: &[WorkItem]) -> bool {
    items.iter().all(|item| item.state == ItemState::Completed)
}

/// `None` if the time is over first.
async fn within<T>(deadline: Option<Deadline>, counting: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.end_at.into(), counting).await.ok(),
        None => Some(counting.await),
    }
}

/// The published rows of a table on both sides.
async fn count((base, head): &mut (Session, Session), tables: &Tables) -> Result<Rows> {
    let on_base = async {
        match &tables.base {
            Some(source) => diff::count_rows(base, source).await,
            None => Ok(0),
        }
    };
    let (base, head) = tokio::try_join!(on_base, diff::count_rows(head, &tables.head))?;
    Ok(Rows { base, head })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(inserts: u64, deletes: u64, passed: Option<(u64, u64, u64, u64)>) -> ItemAccount {
        let passed = passed.map(|(base, head, base_only, head_only)| RowsPassed {
            base,
            head,
            base_only,
            head_only,
        });
        ItemAccount { inserts, deletes, passed }
    }

    fn counted(base: u64, head: u64) -> Option<Rows> {
        Some(Rows { base, head })
    }

    #[test]
    fn a_table_balances_or_says_by_how_much_it_does_not() {
        let passed = |b, h, old, new| Some((b, h, old, new));
        let small = [item(3, 1, passed(60, 61, 5, 6)), item(0, 1, passed(40, 40, 1, 1))];
        let lost = [item(0, 0, passed(0, 0, 0, 0))];
        for (items, rows, filtered, balance, words) in [
            (&[item(3, 1, None)][..], counted(10, 12), false, Some(0), None),
            (&[item(3, 1, None)], counted(10, 12), true, Some(0), None),
            (&[item(3, 1, None), item(0, 2, None)], counted(10, 10), false, Some(0), None),
            (&[item(3, 1, None)], None, false, None, None),
            // A delete was lost, an insert came twice.
            (&[item(0, 0, None)], counted(1000, 999), false, Some(-1), Some("which is -1")),
            (&[item(4, 0, None)], counted(7, 10), false, Some(-1), Some("which is +4")),
            // Row versions were counted on the way.
            (&small, None, false, Some(0), None),
            (&small, counted(100, 101), false, Some(0), None),
            (&small, None, true, None, None),
            (&small, counted(30, 31), true, Some(0), None),
            (&small, counted(100, 102), false, Some(1), Some("head 102")),
            (&small, counted(101, 102), false, Some(0), Some("100 and 101 row versions")),
            (&lost, counted(1000, 999), false, Some(-1), Some("head 999")),
            (&lost, counted(1000, 1000), false, Some(0), Some("0 and 0 row versions")),
            // The pass itself does not agree with what came of it.
            (&[item(1, 0, passed(10, 12, 0, 2))], None, false, Some(1), Some("which is +2")),
            (&[item(1, 0, passed(10, 11, 0, 2))], None, false, Some(0), Some("head alone 2")),
            (&[item(1, 0, passed(10, 11, 0, 2))], None, true, None, Some("head alone 2")),
        ] {
            let account = TableAccount::of(items, rows, filtered);
            assert_eq!(account.balance, balance, "{items:?} {rows:?}");
            match (words, &account.error) {
                (None, None) => {}
                (Some(words), Some(error)) => assert!(error.contains(words), "{error}"),
                (words, error) => panic!("{items:?} {rows:?}: {words:?} {error:?}"),
            }
        }
        // Rows of a filtered table are those that are published, or are not known.
        assert_eq!(TableAccount::of(&small, None, false).rows, counted(100, 101));
        assert_eq!(TableAccount::of(&small, None, true).rows, None);
    }

    #[test]
    fn rows_are_added_up_from_the_beginning_or_not_at_all() {
        let rows = RowsPassed { base: 1, head: 2, base_only: 0, head_only: 1 };
        let mut account = ItemAccount::default();
        account.pass(RowsPassed::default(), false);
        account.pass(rows, true);
        account.pass(rows, true);
        let twice = RowsPassed { base: 2, head: 4, base_only: 0, head_only: 2 };
        assert_eq!(account.passed, Some(twice));
        // One that an older build began.
        let stored = r#"{"inserts":5,"deletes":0}"#;
        let mut account: ItemAccount = serde_json::from_str(stored).unwrap();
        account.pass(rows, true);
        assert_eq!(account, item(5, 0, None));
    }

    #[test]
    fn few_rows_in_many_blocks_are_doubted() {
        let passed = |base, head| Some(RowsPassed { base, head, ..RowsPassed::default() });
        let bytes = 5000 * BLOCK;
        assert!(is_doubtful(passed(0, 0), bytes));
        assert!(is_doubtful(passed(4999, 4000), bytes));
        assert!(is_doubtful(None, bytes));
        assert!(!is_doubtful(passed(5000, 0), bytes));
        assert!(!is_doubtful(passed(0, 300_000), bytes));
        assert!(!is_doubtful(passed(0, 0), 0));
    }
}
