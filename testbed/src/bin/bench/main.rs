//! `scripts/bench`: how fast a recovery finds the changes, against the ways that people use today,
//! on real pairs of restores. `docs/benchmarks.md` tells how to read what it prints.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod contender;
mod data;
mod hashes;
mod measured;
mod pair;
mod process;
mod reladiff;
mod relay;
mod report;
mod seed;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

use contender::{Contender, Programs};
use data::DataSet;
use pair::Pair;
use report::Report;

/// Compares DeltaCompare with the seed's SQL, with reladiff, and with counting rows.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rows in the table
    #[arg(long, value_name = "N", default_value_t = 5_000_000,
          value_parser = clap::value_parser!(u64).range(1_000..))]
    rows: u64,
    /// Only this data set; may be repeated [default: all]
    #[arg(long = "data", value_enum, value_name = "SET")]
    data: Vec<DataSet>,
    /// Only this contender; may be repeated [default: all that fit the data]
    #[arg(long = "only", value_enum, value_name = "WAY")]
    only: Vec<Contender>,
    /// Measured rounds; the contenders take turns in each, and one round before warms up
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Where the servers' folders go; they are gone at the end
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp")]
    folder: PathBuf,
    /// PostgreSQL's major version [default: 15]
    #[arg(long, value_name = "N")]
    major: Option<u32>,
    #[command(flatten)]
    programs: Programs,
    /// Time checksums of whole tables instead, one core, by each of the ways there are
    #[arg(long)]
    hashes: bool,
    /// Hold the pair after the measurements until the standard input ends, and print its URLs
    #[arg(long)]
    hold: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    if arguments.hashes {
        return hashes::measure(arguments).await;
    }
    let sets = if arguments.data.is_empty() { DataSet::ALL } else { &arguments.data };
    let mut missed = 0;
    for &set in sets {
        missed += measure_set(arguments, set).await?;
    }
    ensure!(missed == 0, "{missed} targets were missed");
    Ok(())
}

/// Measures one data set, and yields how many targets were missed.
async fn measure_set(arguments: &Arguments, set: DataSet) -> Result<usize> {
    println!("{}: {} rows, {}", set.name(), arguments.rows, set.describe());
    let contenders = match arguments.programs.earlier {
        Some(_) => &[Contender::Auto, Contender::Earlier],
        None => set.contenders(),
    };
    let contenders: Vec<Contender> = contenders
        .iter()
        .copied()
        .filter(|contender| arguments.only.is_empty() || arguments.only.contains(contender))
        .collect();
    let pair = Pair::make(set, arguments.rows, &arguments.folder, arguments.major).await?;
    if contenders.contains(&Contender::Seed) {
        seed::set_up(&pair).await?;
    }
    let mut report = Report::new(set, pair.bytes().await?);
    let mut found = None;
    for run in 0..=arguments.runs {
        for &contender in &contenders {
            let measured = contender.run(&pair, &arguments.programs, false).await?;
            println!(
                "  {} {}: {}",
                if run == 0 { "warm-up" } else { "run" },
                contender.name(),
                measured
            );
            // Who finds something else has not done the same work.
            if let Some(changes) = measured.changes {
                let others: u64 = *found.get_or_insert(changes);
                let name = contender.name();
                ensure!(changes == others, "{name} finds {changes} changes, another {others}");
            }
            if run > 0 {
                report.add(contender, measured);
            }
        }
    }
    // Apart from the timed runs, since the relays cost time.
    for &contender in &contenders {
        let through_relays = contender.run(&pair, &arguments.programs, true).await?;
        report.add_moved(contender, through_relays.moved);
    }
    report.print();
    if arguments.hold {
        pair.hold().await?;
    }
    Ok(report.missed())
}
