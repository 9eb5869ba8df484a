//! A gap: production with a history, restored to its begin and to its end.

use deltacompare_testbed::{Options, Postgres, Production, Server};

/// The two restores of a production. They end when this is dropped.
pub(crate) struct Gap {
    pub(crate) base: Server,
    pub(crate) head: Server,
}

impl Gap {
    /// Runs `before`, then (in the gap) `during`, and restores to the moments around it. Both are
    /// run as a superuser; head is then allowed to use postgres_fdw.
    pub(crate) async fn between(before: &str, during: &str) -> Self {
        Self::with_options(Options::default(), before, during).await
    }

    pub(crate) async fn with_options(options: Options, before: &str, during: &str) -> Self {
        let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
        production.sql(before).await.unwrap();
        Self::after(production, during).await
    }

    /// The same with a production that has its history already.
    pub(crate) async fn after(production: Production, during: &str) -> Self {
        Self::over(production, async |production| production.sql(during).await.unwrap()).await
    }

    /// The same where more than SQL happens in the gap.
    pub(crate) async fn over(
        production: Production,
        during: impl AsyncFnOnce(&Production),
    ) -> Self {
        production.base_backup().await.unwrap();
        let lost = production.restore_point("lost").await.unwrap();
        during(&production).await;
        let back = production.restore_point("back").await.unwrap();
        let (base, head) =
            tokio::try_join!(production.restore(&lost), production.restore(&back)).unwrap();
        Self::of(base, head).await
    }

    /// Two restores that were made in another way.
    pub(crate) async fn of(base: Server, head: Server) -> Self {
        head.allow_postgres_fdw().await.unwrap();
        Self { base, head }
    }
}

/// What recoveries left on the servers besides the status schema: schemas, foreign servers, roles
/// and sessions. A session that was just closed may take a moment to end.
pub(crate) async fn leftovers(gap: &Gap) -> Vec<String> {
    let query = "select 'schema ' || nspname from pg_namespace where nspname like 'deltacompare\\_%' \
        union all select 'foreign server ' || srvname from pg_foreign_server \
        union all select 'user mapping of ' || srvname from pg_user_mappings \
        union all select 'role ' || rolname from pg_roles where rolname like 'deltacompare%' \
        union all select 'prepared ' || gid from pg_prepared_xacts \
        union all select 'session ' || application_name || ' ' || coalesce(query, '') \
                    from pg_stat_activity where application_name like 'deltacompare%'";
    let since = std::time::Instant::now();
    loop {
        let mut left = Vec::new();
        for (side, server) in [("base", &gap.base), ("head", &gap.head)] {
            let rows: Vec<(String,)> = server.rows(query).await.unwrap();
            left.extend(rows.into_iter().map(|(what,)| format!("{side}: {what}")));
        }
        if left.is_empty() || since.elapsed() > std::time::Duration::from_secs(2) {
            return left;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
