//! The account of a table: `inserts − deletes = rows of head − rows of base`.
//!
//! It is taken once every work item of the table has ended, over all that was found, whether it is
//! sent or not. Rows are counted by a statement that shares nothing with the strategy
//! ([`diff::count_rows`]), except in large tables that were compared by row versions: these were
//! counted on the way, and are counted again only where the figures are doubtful or
//! [`Verify::Count`] asks for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::deadline::Deadline;
use super::diagnosis;
use super::progress::Progress;
use super::sequences::{Sequences, came_and_went};
use super::set_up::connect_both;
use super::store::{Rows, Store, StoredRecovery, TableAccount};
use super::work_item::{ItemAccount, ItemState, WorkItem};
use crate::diff::{self, RowsPassed, Source, Tables};
use crate::error::{ErrorKind, Result};
use crate::model::{Strategy, TableName, Verify};
use crate::postgres::Session;
use crate::preflight::Servers;

/// Bytes of a table that are counted in a moment, whatever its strategy.
const SMALL: u64 = 64 << 20;

/// Bytes of a block, unless PostgreSQL was built otherwise.
const BLOCK: u64 = 8192;

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
    let by_row_versions = items.iter().all(|item| item.spec.strategy == Strategy::RowVersions);
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
    let verify = recovery.request.verify;
    let taken = store.accounts(recovery.id).await?;
    let due: Vec<(TableName, Vec<WorkItem>)> = tables(store.items(recovery.id).await?)
        .into_iter()
        .filter(|(name, items)| !taken.contains_key(name) && all_completed(items))
        .collect();
    if due.is_empty() {
        return Ok(true);
    }
    let mut counter = Counter { servers, sessions: None };
    let (base_sequences, head_sequences) = counter.sequences(&due).await?;
    let mut said = false;
    for group in groups(&due, |(_, items)| items.iter().map(|item| item.bytes).sum()) {
        let counted: Vec<&Tables> = group
            .iter()
            .filter(|(_, items)| is_to_be_counted(items, verify))
            .map(|(_, items)| &items[0].spec.tables)
            .collect();
        if !counted.is_empty() && !std::mem::replace(&mut said, true) {
            progress.say("counting rows");
        }
        let time_is_over = || deadline.is_some_and(|it| Instant::now() >= it.pause_at);
        if time_is_over() {
            return Ok(false);
        }
        let mut together = counter.count_together(&counted).await?.map(Vec::into_iter);
        let mut accounts = Vec::with_capacity(group.len());
        for (name, items) in group {
            let (mut rows, mut error, mut warning) = (None, None, None);
            if is_to_be_counted(items, verify) {
                if together.is_none() && !accounts.is_empty() && time_is_over() {
                    store.put_accounts(recovery.id, &accounts).await?;
                    return Ok(false);
                }
                let counting = async {
                    match &mut together {
                        Some(together) => Ok(together.next()),
                        None => counter.count(&items[0].spec.tables).await,
                    }
                };
                match within(deadline, counting).await {
                    Some(Ok(counted)) => rows = counted,
                    Some(Err(failed)) if failed.kind() == ErrorKind::Item => {
                        let tables = &items[0].spec.tables;
                        let failed =
                            diagnosis::explained(servers, "deltacompare account", tables, failed)
                                .await;
                        error = Some(format!("its rows could not be counted: {failed}"));
                    }
                    Some(Err(failed)) => {
                        return Err(failed.while_doing(format!("counting the rows of {name}")));
                    }
                    None if verify == Verify::Count => {
                        error = Some(format!("{TOO_LONG}: {LONGER}, then retry"));
                    }
                    None => {
                        warning = Some(format!("{TOO_LONG}, so that it has no account: {LONGER}"));
                    }
                }
            }
            let found: Vec<ItemAccount> = items.iter().map(|item| item.done.account).collect();
            let filtered = items[0].spec.tables.head.filter.is_some();
            let mut account = TableAccount::of(&found, rows, filtered);
            account.error = error.or(account.error);
            let inserts = found.iter().map(|account| account.inserts).sum();
            // Rows that a filter leaves out, or that went into a child, are there.
            let all_rows = !filtered && !items[0].spec.tables.head.only;
            let moved = all_rows
                .then(|| came_and_went(&items[0], &base_sequences, &head_sequences, inserts))
                .flatten();
            let warnings: Vec<String> = warning.into_iter().chain(moved).collect();
            let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
            accounts.push((name, account, warning));
        }
        store.put_accounts(recovery.id, &accounts).await?;
    }
    counter.close().await;
    Ok(true)
}

/// Tables that are counted by one statement: each holds a lock until its end.
const MOST_TOGETHER: usize = 50;

/// How long that may take. If it does not suffice, they are counted one by one.
const TOGETHER_WITHIN: Duration = Duration::from_secs(10);

/// Cuts tables into groups whose accounts are taken together: of [`SMALL`] bytes in all, but for a
/// table that alone has more.
fn groups<T>(tables: &[T], bytes: impl Fn(&T) -> u64) -> Vec<&[T]> {
    let mut groups = Vec::new();
    let (mut from, mut held) = (0, 0u64);
    for (at, table) in tables.iter().enumerate() {
        let more = bytes(table);
        if at > from && (held.saturating_add(more) > SMALL || at - from == MOST_TOGETHER) {
            groups.push(&tables[from..at]);
            (from, held) = (at, 0);
        }
        held = held.saturating_add(more);
    }
    if from < tables.len() {
        groups.push(&tables[from..]);
    }
    groups
}

/// Counts rows on both sides at once, in sessions that it keeps.
struct Counter<'a> {
    servers: &'a Servers,
    sessions: Option<(Session, Session)>,
}

impl Counter<'_> {
    /// The published rows of a table.
    async fn count(&mut self, tables: &Tables) -> Result<Option<Rows>> {
        Ok(self.count_all(&[tables]).await?.pop())
    }

    /// The published rows of several tables; `None` if they are to be counted one by one, since one
    /// of them cannot be counted, or takes long.
    async fn count_together(&mut self, tables: &[&Tables]) -> Result<Option<Vec<Rows>>> {
        if tables.len() < 2 {
            return Ok(None);
        }
        match tokio::time::timeout(TOGETHER_WITHIN, self.count_all(tables)).await {
            Ok(Err(error)) if error.kind() != ErrorKind::Item => {
                Err(error.while_doing("counting rows"))
            }
            counted => Ok(counted.ok().and_then(Result::ok)),
        }
    }

    /// The sequences of these tables, base's and head's.
    async fn sequences(
        &mut self,
        tables: &[(TableName, Vec<WorkItem>)],
    ) -> Result<(Sequences, Sequences)> {
        let specs = || tables.iter().map(|(_, items)| &items[0].spec);
        let on_base: Vec<i64> = specs().filter_map(|spec| spec.base_oid).map(i64::from).collect();
        let on_head: Vec<i64> = specs().map(|spec| i64::from(spec.head_oid)).collect();
        let (base, head) = self.sessions().await?;
        match tokio::try_join!(Sequences::of(&base, &on_base), Sequences::of(&head, &on_head)) {
            Ok(found) => {
                self.sessions = Some((base, head));
                Ok(found)
            }
            // They are for a note, and no reason to fail what was delivered.
            Err(error) if error.kind() == ErrorKind::Item => {
                tracing::warn!(%error, "sequences cannot be read: no note tells of rows that came and went");
                Ok(Default::default())
            }
            Err(error) => Err(error),
        }
    }

    /// The sessions that are kept, or new ones.
    async fn sessions(&mut self) -> Result<(Session, Session)> {
        match self.sessions.take() {
            Some(sessions) => Ok(sessions),
            None => sessions_without_index(self.servers).await,
        }
    }

    /// Sessions in which something went wrong, or that nobody waited for, are not used again.
    async fn count_all(&mut self, tables: &[&Tables]) -> Result<Vec<Rows>> {
        let (base, head) = self.sessions().await?;
        let sources = |of: fn(&Tables) -> Option<&Source>| -> Vec<&Source> {
            tables.iter().filter_map(|tables| of(tables)).collect()
        };
        let (on_base, on_head) = (sources(|it| it.base.as_ref()), sources(|it| Some(&it.head)));
        let (on_base, on_head) =
            tokio::try_join!(diff::count_rows(&base, &on_base), diff::count_rows(&head, &on_head))?;
        self.sessions = Some((base, head));
        let mut on_base = on_base.into_iter();
        Ok(tables
            .iter()
            .zip(on_head)
            .map(|(tables, head)| Rows {
                base: tables.base.as_ref().and_then(|_| on_base.next()).unwrap_or(0),
                head,
            })
            .collect())
    }

    async fn close(self) {
        if let Some((base, head)) = self.sessions {
            tokio::join!(base.close(), head.close());
        }
    }
}

async fn sessions_without_index(servers: &Servers) -> Result<(Session, Session)> {
    let (base, head) = connect_both(servers, "deltacompare account").await?;
    tokio::try_join!(diff::use_no_index(&base), diff::use_no_index(&head))?;
    Ok((base, head))
}

const TOO_LONG: &str = "counting its rows took longer than one message may";
const LONGER: &str = "raise functionTimeout in host.json, or use deltacompare run";

/// Fails the tables whose stored accounts do not balance, if nothing else has failed them.
pub(super) async fn judge(store: &Store, recovery: Uuid) -> Result<()> {
    let accounts = store.accounts(recovery).await?;
    if accounts.values().all(|account| account.error.is_none()) {
        return Ok(());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_counted_together_as_long_as_that_takes_a_moment() {
        let sizes = |bytes: &[u64]| -> Vec<usize> {
            groups(bytes, |bytes| *bytes).iter().map(|group| group.len()).collect()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[SMALL, 1, SMALL - 1, 1, SMALL * 2, 0]), [1, 2, 1, 1, 1]);
        assert_eq!(sizes(&vec![0; 2 * MOST_TOGETHER + 1]), [MOST_TOGETHER, MOST_TOGETHER, 1]);
    }

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
