//! `scripts/demo`: a replication slot is lost on a real server, and what downstream missed is
//! recovered and proved.
#![allow(clippy::print_stdout, reason = "it tells a story")]

mod app;
mod consumer;
mod copy;
mod event;
mod gap;
mod narrator;
mod program;
mod proof;
mod recovery;
mod shop;
mod tally;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use gap::Gap;
use narrator::Narrator;
use program::Program;
use recovery::Recovery;
use shop::Shop;

/// Loses a replication slot on a real server and recovers what downstream missed.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rows in production before the story begins
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(10_000..))]
    rows: u64,
    /// Where the event file, the status and the app go
    #[arg(long, value_name = "FOLDER", default_value = ".demo")]
    output: PathBuf,
    /// Leave the app with its dashboard, and the servers, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match tell(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!();
            eprintln!("demo: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn tell(arguments: &Arguments) -> Result<()> {
    let narrator = Narrator::new();
    let program = Program::prepare(&arguments.output)?;
    let shop = Shop::of(arguments.rows);
    shop.require_space()?;

    let gap = Gap::happens(&narrator, &shop).await?;
    let recovery = Recovery::between(&narrator, &program, &gap).await?;
    recovery.plan().await?;
    let (status, app) = recovery.run().await?;
    let events = recovery.compare_with_what_was_lost(&status).await?;
    recovery.prove(&events).await?;
    recovery.show(&events)?;
    if arguments.keep {
        recovery.keep(&status, &app).await?;
    }
    app.stop().await;
    recovery.tidy().await?;
    narrator.end("Done.");
    Ok(())
}
