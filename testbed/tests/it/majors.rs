//! The pair on every PostgreSQL that is installed here.

use std::time::Instant;

use anyhow::{Context, Result};
use deltacompare_testbed::{Options, Postgres, Role};

use crate::pair::lineage;

#[tokio::test]
async fn a_pair_comes_up_on_every_major() -> Result<()> {
    let all = Postgres::available();
    assert!(!all.is_empty(), "no PostgreSQL here: run `scripts/setup`");
    for postgres in all {
        let since = Instant::now();
        smoke(&postgres).await.with_context(|| format!("on PostgreSQL {}", postgres.major()))?;
        eprintln!(
            "PostgreSQL {}: {:?} ({})",
            postgres.major(),
            since.elapsed(),
            postgres.bin().display()
        );
    }
    Ok(())
}

async fn smoke(postgres: &Postgres) -> Result<()> {
    let (production, lost, back) = crate::gap_on(postgres, Options::default()).await?;
    let version: String = production.value("show server_version_num").await?;
    assert!(version.starts_with(&postgres.major().to_string()));
    let (base, head) = tokio::try_join!(production.restore(&lost), production.restore(&back))?;
    head.allow_postgres_fdw().await?;
    for (server, rows) in [(&base, 1), (&head, 2)] {
        for role in [Role::Superuser, Role::Admin] {
            let connection = server.connect_as(role).await?;
            let count: i64 = connection.value("select count(*) from t", &[]).await?;
            assert_eq!(count, rows);
        }
        assert_eq!(lineage(server).await?.1, 2);
    }
    Ok(())
}
