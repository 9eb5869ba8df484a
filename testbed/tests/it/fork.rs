//! A fork in the timeline, as a failover makes one: base lies beside head's history, not in it.

use anyhow::Result;
use deltacompare_testbed::{Options, RestoreOptions};

use crate::gap;
use crate::pair::lineage;

#[tokio::test]
async fn a_restore_that_archives_starts_a_history_to_restore_from() -> Result<()> {
    let (production, fork, _) = gap(Options::default()).await?;
    let promoted = production
        .restore_with(&fork, RestoreOptions { archive: true, ..RestoreOptions::default() })
        .await?;

    // The old primary goes on on timeline 1, the new one on timeline 2.
    production.sql("insert into t values (100)").await?;
    let lost = production.restore_point("lost").await?;
    promoted.sql("insert into t values (200)").await?;
    let back = promoted.restore_point("back").await?;
    assert_eq!((lost.timeline, back.timeline), (1, 2));

    let (base, head) = tokio::try_join!(production.restore(&lost), production.restore(&back))?;
    let ids = "select id from t order by id";
    assert_eq!(base.rows::<(i32,)>(ids).await?, [(1,), (2,), (3,), (100,)]);
    assert_eq!(head.rows::<(i32,)>(ids).await?, [(1,), (200,)]);

    let (base, head) = (lineage(&base).await?, lineage(&head).await?);
    assert_eq!(base.0, head.0, "one system identifier");
    assert_eq!((base.1, head.1), (3, 3), "the number of the timeline tells nothing");
    let left_at = |history: &str| history.lines().map(str::to_owned).next().unwrap();
    assert!(left_at(&base.2).contains(&lost.lsn) && left_at(&head.2).contains(&fork.lsn));
    Ok(())
}

#[tokio::test]
async fn a_restore_that_does_not_archive_takes_no_points() -> Result<()> {
    let (production, lost, _) = gap(Options::default()).await?;
    let base = production.restore(&lost).await?;
    assert!(base.restore_point("never").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_point_before_the_backup_is_refused_with_the_servers_reason() -> Result<()> {
    let (production, lost, _) = gap(Options::default()).await?;
    production.base_backup().await?;
    let error = production.restore(&lost).await.expect_err("it lies before the backup");
    assert!(format!("{error:#}").contains("recovery"), "{error:#}");
    Ok(())
}
