//! The seed's SQL: a FULL JOIN of head's table with base's, read over postgres_fdw, with the tuning
//! that the seed's page names (`use_remote_estimate`, a fetch size of 10000, ANALYZE).

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use deltacompare_testbed::{Connection, Role};
use futures_util::TryStreamExt;

use crate::data::TABLE;
use crate::measured::Measured;
use crate::pair::{Pair, Way};

/// Creates the foreign table.
pub(crate) async fn set_up(pair: &Pair) -> Result<()> {
    let (user, password) = (Role::Admin.name(), pair.base.password(Role::Admin));
    pair.head
        .sql(format!(
            "create schema seed_fdw;
             create server seed_fdw foreign data wrapper postgres_fdw
               options (host '127.0.0.1', port '{port}', dbname '{database}', sslmode 'disable',
                        use_remote_estimate 'true');
             create user mapping for public server seed_fdw
               options (user '{user}', password '{password}');
             import foreign schema public limit to ({TABLE}) from server seed_fdw into seed_fdw;
             alter foreign table seed_fdw.{TABLE} options (add fetch_size '10000');
             analyze seed_fdw.{TABLE};
             grant usage on schema seed_fdw to {user};
             grant select on seed_fdw.{TABLE} to {user}",
            port = pair.base.port(),
            database = pair.base.database(),
        ))
        .await
}

/// Finds the changes: counts them, or writes them to a file where the events are compared with it.
pub(crate) async fn run(pair: &Pair, way: &Way) -> Result<Measured> {
    pair.head
        .sql(format!("alter server seed_fdw options (set port '{}')", way.base_port()))
        .await?;
    let join = join(pair.set.key());
    let since = Instant::now();
    let connection = Connection::open(&way.head_url_with_password()).await?;
    let mut written = 0;
    let changes = if pair.set.writes_rows() {
        let copy = format!("copy (select h as new, b as old {join}) to stdout");
        let mut file = std::fs::File::create(pair.file("rows.tsv"))?;
        let mut rows = 0;
        let mut copied = connection.copy_out(&copy).await?;
        let mut block = Vec::with_capacity(1 << 20);
        while let Some(row) = copied.try_next().await? {
            rows += 1;
            written += row.len() as u64;
            block.extend_from_slice(&row);
            if block.len() > 1 << 19 {
                file.write_all(&block)?;
                block.clear();
            }
        }
        drop(copied);
        file.write_all(&block)?;
        file.sync_data()?;
        rows
    } else {
        let count: i64 = connection.value(&format!("select count(*) {join}"), &[]).await?;
        count.try_into()?
    };
    let mut measured = Measured::new(since.elapsed());
    connection.close().await?;
    measured.changes = Some(changes);
    measured.written_bytes = written;
    Ok(measured)
}

fn join(key: &[&str]) -> String {
    let on: Vec<String> = key.iter().map(|column| format!("h.{column} = b.{column}")).collect();
    format!(
        "from public.{TABLE} h full join seed_fdw.{TABLE} b on {} where h.* is distinct from b.*",
        on.join(" and ")
    )
}
