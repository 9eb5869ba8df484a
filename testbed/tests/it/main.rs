//! The testbed, tested by behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod azurite;
mod decoding;
mod fork;
mod functions_host;
mod majors;
mod pair;
mod parent_killed;
mod proxy;
mod restart;
mod tls;

use anyhow::Result;
use deltacompare_testbed::{Options, Postgres, Production, RestorePoint};

/// Production with table `t`, row 1 before a base backup and the point `lost`, row 2 after both and
/// before the point `back`.
async fn gap(options: Options) -> Result<(Production, RestorePoint, RestorePoint)> {
    gap_on(&Postgres::find(None)?, options).await
}

async fn gap_on(
    postgres: &Postgres,
    options: Options,
) -> Result<(Production, RestorePoint, RestorePoint)> {
    let production = Production::start(postgres, options).await?;
    production.sql("create table t (id int primary key); insert into t values (1)").await?;
    production.base_backup().await?;
    let lost = production.restore_point("lost").await?;
    production.sql("insert into t values (2)").await?;
    let back = production.restore_point("back").await?;
    production.sql("insert into t values (3)").await?;
    Ok((production, lost, back))
}
