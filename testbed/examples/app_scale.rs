//! Measures the app under the stand-in for the Functions host: one recovery of many small tables,
//! once with each number of handlers. `docs/scale.md` tells what its figures mean.
//!
//!     app_scale <deltacompare> [--tables 200] [--rows 2000] [--handlers 1,2,4,8]
//!
//! Everything runs on one machine: handlers, both servers and the queues share its cores.
#![allow(clippy::print_stdout, reason = "it prints its table")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use deltacompare_testbed::functions_host::{FunctionsHost, HostOptions};
use deltacompare_testbed::{Azurite, Options, Postgres, Production, Proxy, Role, Server, layout};
use serde_json::{Value, json};

/// Measures a recovery of many tables with several numbers of handlers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program that the app runs
    program: PathBuf,
    /// How many tables there are
    #[arg(long, default_value_t = 200)]
    tables: u32,
    /// Rows of each table, one of a hundred changed
    #[arg(long, default_value_t = 2000)]
    rows: u32,
    /// Numbers of handlers, each measured once
    #[arg(long, default_value = "1,2,4,8", value_delimiter = ',')]
    handlers: Vec<usize>,
    /// How each table is diffed
    #[arg(long, default_value = "auto")]
    strategy: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let options = Options { conf: vec!["max_connections = 300".to_owned()], ..Options::default() };
    let production = Production::start(&Postgres::find(None)?, options).await?;
    let each = |what: &str| {
        format!("do $$ begin for t in 1..{} loop {what} commit; end loop; end $$", arguments.tables)
    };
    production
        .sql(each(&format!(
            "execute format('create table t%s (id int primary key, v text);
                             insert into t%s select i, md5(i::text)
                               from generate_series(1, {}) i', t, t);",
            arguments.rows
        )))
        .await?;
    production.sql("create publication shop for all tables").await?;
    production.base_backup().await?;
    let lost = production.restore_point("lost").await?;
    production
        .sql(each("execute format('update t%s set v = ''w'' where id %% 100 = 0', t);"))
        .await?;
    let back = production.restore_point("back").await?;
    let (base, head) = tokio::try_join!(production.restore(&lost), production.restore(&back))?;
    head.allow_postgres_fdw().await?;
    println!("{} tables of {} rows, {}", arguments.tables, arguments.rows, arguments.strategy);
    println!(
        "handlers  seconds  base connections  head connections  queue operations  invocations"
    );
    for &handlers in &arguments.handlers {
        measure(&arguments, &base, &head, handlers).await?;
    }
    Ok(())
}

async fn measure(
    arguments: &Arguments,
    base: &Server,
    head: &Server,
    handlers: usize,
) -> Result<()> {
    let (to_base, to_head) = (Proxy::to(base.port()).await?, Proxy::to(head.port()).await?);
    let folder = tempfile::tempdir()?;
    layout(Path::new(&arguments.program), folder.path())?;
    let azurite = Azurite::start()?;
    let settings = BTreeMap::from([
        ("DELTACOMPARE_BASE".to_owned(), through(base, &to_base)),
        ("DELTACOMPARE_HEAD".to_owned(), through(head, &to_head)),
        ("DELTACOMPARE_QUEUES".to_owned(), azurite.connection_string()),
    ]);
    let options = HostOptions { settings, instances: handlers, ..HostOptions::default() };
    let host = FunctionsHost::start(folder.path(), options).await?;
    host.ready().await?;
    let client = reqwest::Client::new();
    let url = format!("{}/api/recoveries", host.url());
    let key = ("x-functions-key", host.host_key());
    // The first request makes the status store.
    client.get(&url).header(key.0, key.1).send().await?.error_for_status()?;
    let before = host.counts();
    let since = Instant::now();
    let body = json!({
        "sinks": ["delta-table"], "strategy": arguments.strategy, "parallel": 4 * handlers,
    });
    let begun: Value =
        client.post(&url).header(key.0, key.1).json(&body).send().await?.json().await?;
    let id = begun["id"].as_str().with_context(|| begun.to_string())?;
    // Asked of the app: a session of ours on head would have it wait longer for counts of writes.
    let state = loop {
        let status: Value = client
            .get(format!("{url}/{id}"))
            .header(key.0, key.1)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let state = status["state"].as_str().context("no state")?.to_owned();
        if !["planning", "running"].contains(&state.as_str()) {
            break state;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    let seconds = since.elapsed().as_secs_f64();
    ensure!(state == "completed", "the recovery {state}");
    let after = host.counts();
    let received = after.received - before.received;
    // Each message that came was sent.
    let operations = after.polls - before.polls + received + after.deleted - before.deleted
        + after.returned
        - before.returned
        + after.renewed
        - before.renewed;
    println!(
        "{handlers:8}  {seconds:7.1}  {:16}  {:16}  {operations:16}  {:11}",
        to_base.most(),
        to_head.most(),
        after.invocations - before.invocations
    );
    host.stop().await;
    Ok(())
}

/// How the app reaches a server, so that its connections are counted.
fn through(server: &Server, proxy: &Proxy) -> String {
    format!(
        "postgres://{}:{}@{}:{}/{}?sslmode=disable",
        Role::Admin.name(),
        server.password(Role::Admin),
        server.host(),
        proxy.port(),
        server.database()
    )
}
