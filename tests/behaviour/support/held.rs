//! Processes met at a chosen instant: with events in their hands that they cannot get rid of.

use std::time::{Duration, Instant};

use deltacompare_testbed::Connection;

use super::Gap;

/// Nobody can write to this table of the status schema until this is closed.
pub(crate) async fn hold(gap: &Gap, table: &str) -> Connection {
    let session = gap.head.connect().await.unwrap();
    let lock = format!(
        "set application_name = 'deltacompare gate'; begin;
         lock table deltacompare.{table} in exclusive mode"
    );
    session.sql(&lock).await.unwrap();
    session
}

/// So many sessions wait for [`hold`] to end; a condition for [`until`].
pub(crate) fn waiting_for(table: &str, sessions: usize) -> String {
    format!(
        "select count(*) = {sessions} from pg_locks
          where not granted and relation = to_regclass('deltacompare.{table}')
            and database = (select oid from pg_database where datname = current_database())"
    )
}

/// The same of the delta table: whoever has events in hand waits.
pub(crate) async fn hold_the_sink(gap: &Gap) -> Connection {
    hold(gap, "delta").await
}

/// So many sessions wait for [`hold_the_sink`] to end; a condition for [`until`].
pub(crate) fn waiting_for_the_sink(workers: usize) -> String {
    waiting_for("delta", workers)
}

/// Waits until a query on head is true, at most for a while.
pub(crate) async fn until(gap: &Gap, condition: &str) {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(100) {
        // One session for all questions that can be answered.
        let Ok(asking) = asking(gap).await else { continue };
        while since.elapsed() < Duration::from_secs(100) {
            match asking.value::<bool>(condition, &[]).await {
                Ok(true) => return asking.close().await.unwrap(),
                // What it asks for may not be there yet.
                Err(_) if asking.value::<bool>("select true", &[]).await.is_err() => break,
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {condition}");
}

/// A session on head that a recovery does not take for somebody who may have written.
async fn asking(gap: &Gap) -> anyhow::Result<Connection> {
    let asking = gap.head.connect().await?;
    asking.sql("set application_name = 'deltacompare gate'").await?;
    Ok(asking)
}
