//! Holds a pair of restores for trying things by hand: `cargo run --example pair -- before.sql
//! during.sql [major]`. Prints the URLs and ends with Ctrl-C or the end of standard input.
#![allow(clippy::print_stdout, reason = "a program for people")]

use anyhow::{Context, Result};
use deltacompare_testbed::{Options, Postgres, Production, Role};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [before, during, major @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: pair before.sql during.sql [major]");
    };
    let read = |path: &String| std::fs::read_to_string(path).with_context(|| path.clone());
    let major = major.first().map(|major| major.parse()).transpose()?;
    let production = Production::start(&Postgres::find(major)?, Options::default()).await?;
    production.sql(read(before)?).await?;
    production.base_backup().await?;
    let lost = production.restore_point("lost").await?;
    production.sql(read(during)?).await?;
    let back = production.restore_point("back").await?;
    let (base, head) = tokio::try_join!(production.restore(&lost), production.restore(&back))?;
    head.allow_postgres_fdw().await?;
    for (name, server) in [("BASE", &base), ("HEAD", &head)] {
        println!("export DELTACOMPARE_{name}='{}'", server.url(Role::Admin));
        println!("export {name}_SUPERUSER='{}'", server.url(Role::Superuser));
    }
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    Ok(())
}
