//! A gap: production with a history, restored to its begin and to its end.

use deltacompare_testbed::{Options, Postgres, Production, Server};

use super::{Database, deltacompare};

/// The two restores of a production. Servers of a gap's own end when this is dropped.
pub(crate) struct Gap {
    pub(crate) base: Server,
    pub(crate) head: Server,
}

impl Gap {
    /// In a database that this gap has for itself on servers that all tests share, runs `before`,
    /// then (in the gap) `during`, and yields the restores to the moments around it. Both are run as
    /// a superuser; head is then allowed to use postgres_fdw.
    pub(crate) async fn between(before: &str, during: &str) -> Self {
        let database = Database::new().await;
        database.sql(before).await.unwrap();
        Self::after(database, during).await
    }

    /// The same in a database that has its history already.
    pub(crate) async fn after(database: Database, during: &str) -> Self {
        Self::over(database, async |production| production.sql(during).await.unwrap()).await
    }

    /// The same where more than SQL happens in the gap.
    pub(crate) async fn over(database: Database, during: impl AsyncFnOnce(&Server)) -> Self {
        let (base, head) = database.restored(during).await;
        Self::of(base, head).await
    }

    /// The same on servers of the gap's own.
    pub(crate) async fn own(options: Options, before: &str, during: &str) -> Self {
        let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
        production.sql(before).await.unwrap();
        Self::own_after(production, during).await
    }

    /// The same with a production that has its history already.
    pub(crate) async fn own_after(production: Production, during: &str) -> Self {
        Self::own_over(production, async |production| production.sql(during).await.unwrap()).await
    }

    /// The same where more than SQL happens in the gap.
    pub(crate) async fn own_over(
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

impl Gap {
    /// The same with a status store on head, which knows no recovery. The program makes it by
    /// recovering this table.
    pub(crate) async fn with_status_store(self, table: &str) -> Self {
        let run = ["run", "--sink", "delta-table", "--table", table];
        deltacompare(&self, &run).run().await.assert_completed();
        self.head.sql("truncate deltacompare.recovery, deltacompare.delta cascade").await.unwrap();
        self
    }
}

/// What recoveries left on the servers besides the status schema: schemas, foreign servers, roles
/// and sessions. A session that was just closed may take a moment to end. On shared servers: what
/// recoveries of this database left.
pub(crate) async fn leftovers(gap: &Gap) -> Vec<String> {
    let here = |column: &str| match gap.base.is_shared() {
        true => format!("{column} = current_database()"),
        false => "true".to_owned(),
    };
    let query = format!(
        "select 'schema ' || nspname from pg_namespace where nspname like 'deltacompare\\_%' \
        union all select 'foreign server ' || srvname from pg_foreign_server \
        union all select 'user mapping of ' || srvname from pg_user_mappings \
        union all select 'role ' || rolname from pg_roles where rolname like 'deltacompare%' \
        union all select 'prepared ' || gid from pg_prepared_xacts where {} \
        union all select 'session ' || application_name || ' ' || coalesce(query, '') \
                    from pg_stat_activity where application_name like 'deltacompare%' and {}",
        here("database"),
        here("datname")
    );
    let since = std::time::Instant::now();
    loop {
        let mut left = Vec::new();
        for (side, server) in [("base", &gap.base), ("head", &gap.head)] {
            let rows: Vec<(String,)> = server.rows(query.as_str()).await.unwrap();
            left.extend(rows.into_iter().map(|(what,)| format!("{side}: {what}")));
        }
        if gap.base.is_shared() {
            let ours = roles_of_recoveries(gap).await;
            left.retain(|it| match it.split_once(": role ") {
                Some((_, role)) => ours.iter().any(|ours| ours == role),
                None => true,
            });
        }
        if left.is_empty() || since.elapsed() > std::time::Duration::from_secs(2) {
            return left;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The names of the throw-away roles that recoveries of this database have or had.
async fn roles_of_recoveries(gap: &Gap) -> Vec<String> {
    let known = "select to_regclass('deltacompare.recovery') is not null";
    if !gap.head.value::<bool>(known).await.unwrap() {
        return Vec::new();
    }
    let names = "select 'deltacompare_' || right(id::text, 12) from deltacompare.recovery";
    let names: Vec<(String,)> = gap.head.rows(names).await.unwrap();
    names.into_iter().map(|(name,)| name).collect()
}
