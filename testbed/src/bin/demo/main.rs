//! `scripts/demo`: a replication slot is lost on a real server, and what downstream missed is
//! recovered and proved.
#![allow(clippy::print_stdout, reason = "it tells a story")]

mod consumer;
mod copy;
mod event;
mod narrator;
mod program;
mod proof;
mod shop;
mod tally;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use deltacompare_testbed::{Options, Postgres, Production, RestorePoint, Role, Server};

use consumer::Consumer;
use event::Events;
use narrator::{Narrator, count};
use program::Program;
use shop::Shop;
use tally::Tally;

/// Loses a replication slot on a real server and recovers what downstream missed.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rows in production before the story begins
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(10_000..))]
    rows: u64,
    /// Where the event file and the report go
    #[arg(long, value_name = "FOLDER", default_value = ".demo")]
    output: PathBuf,
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

    let (production, consumer) = open_the_shop(&narrator, &shop).await?;
    let lost = lose_the_slot(&narrator, &production, &consumer).await?;
    let missed = trade_without_a_slot(&narrator, &production, &shop).await?;
    let back = bring_the_slot_back(&narrator, &production, &shop, &consumer).await?;
    let (base, head) = restore_twice(&narrator, &production, &lost, &back).await?;
    recover(&narrator, &program, &base, &head).await?;
    let events = compare_with_what_was_lost(&narrator, &program, &missed)?;
    prove(&narrator, &program, &base, &head, &events).await?;
    show(&narrator, &program, &events)?;
    tidy(&narrator, &program, &base, &head).await?;
    narrator.end("Done.");
    Ok(())
}

async fn open_the_shop(narrator: &Narrator, shop: &Shop) -> Result<(Production, Consumer)> {
    narrator.chapter("A shop, and a consumer that follows it");
    let postgres = Postgres::find(None)?;
    let options = Options { wal_segment_mb: 16, ..Options::default() };
    let production = narrator
        .timed(
            &format!("starting production: PostgreSQL {}, archiving its WAL", postgres.major()),
            Production::start(&postgres, options),
        )
        .await?;
    narrator
        .timed(
            &format!("loading {} rows into {} tables", count(shop.rows()), shop::TABLES.len()),
            shop.load(&production),
        )
        .await?;
    narrator.timed("taking a base backup while it runs", production.base_backup()).await?;
    let consumer = Consumer::subscribe(&production).await?;
    let seen = traffic::play(&production, &shop.before_the_loss()).await?;
    let received = consumer.receive(&production).await?;
    narrator.say(&format!(
        "Publication `{}` publishes all {} tables. The consumer reads the logical slot `{}` and has \
         received every change so far: {} of {}.",
        shop::PUBLICATION,
        shop::TABLES.len(),
        consumer::SLOT,
        count(received),
        count(seen.total()),
    ));
    ensure!(received == seen.total(), "the consumer received {received}, not {}", seen.total());
    Ok((production, consumer))
}

async fn lose_the_slot(
    narrator: &Narrator,
    production: &Production,
    consumer: &Consumer,
) -> Result<RestorePoint> {
    narrator.chapter("The slot is lost");
    let lost = production.restore_point("lost").await?;
    let confirmed = consumer.lose(production).await?;
    narrator.command(&format!("select pg_drop_replication_slot('{}');", consumer::SLOT));
    narrator.say(&format!(
        "The consumer had confirmed everything up to LSN {confirmed}. From here on, nobody keeps \
         what changes. (A failover, or max_slot_wal_keep_size, does the same.)"
    ));
    Ok(lost)
}

async fn trade_without_a_slot(
    narrator: &Narrator,
    production: &Production,
    shop: &Shop,
) -> Result<Tally> {
    narrator.chapter("A busy gap: the shop goes on, downstream hears nothing");
    let deeds = shop.in_the_gap();
    let missed =
        narrator.timed("trading without a slot", traffic::play(production, &deeds)).await?;
    for deed in &deeds {
        narrator.item(deed.what);
    }
    narrator.say(&format!("{} changes of rows that no slot will deliver.", count(missed.total())));
    Ok(missed)
}

async fn bring_the_slot_back(
    narrator: &Narrator,
    production: &Production,
    shop: &Shop,
    consumer: &Consumer,
) -> Result<RestorePoint> {
    narrator.chapter("The slot is back");
    let consistent = consumer.subscribe_again(production).await?;
    narrator.command(&format!(
        "select pg_create_logical_replication_slot('{}', 'pgoutput');",
        consumer::SLOT
    ));
    let back = production.restore_point("back").await?;
    let later = traffic::play(production, &shop.after_the_return()).await?;
    let received = consumer.receive(production).await?;
    narrator.say(&format!(
        "It begins at LSN {consistent} and knows nothing older. The consumer receives the {} changes \
         made since; those need no recovery and must not be recovered.",
        count(received),
    ));
    ensure!(received == later.total(), "the consumer received {received}, not {}", later.total());
    Ok(back)
}

async fn restore_twice(
    narrator: &Narrator,
    production: &Production,
    lost: &RestorePoint,
    back: &RestorePoint,
) -> Result<(Server, Server)> {
    narrator.chapter("Two point-in-time restores");
    let (base, head) = narrator
        .timed(
            "restoring base (slot lost) and head (slot back) from the backup and the WAL",
            async { tokio::try_join!(production.restore(lost), production.restore(back)) },
        )
        .await?;
    // What an administrator does on Azure by adding POSTGRES_FDW to azure.extensions.
    head.allow_postgres_fdw().await?;
    narrator.say(&format!(
        "base listens on port {}, head on port {}; production is not needed any more.",
        base.port(),
        head.port()
    ));
    Ok((base, head))
}

async fn recover(
    narrator: &Narrator,
    program: &Program,
    base: &Server,
    head: &Server,
) -> Result<()> {
    narrator.chapter("DeltaCompare: what is the difference?");
    narrator.say(&format!(
        "As `{}`, who is no superuser and has what a server administrator has on Azure:",
        Role::Admin.name()
    ));
    for (name, value) in program::environment(base, head) {
        narrator.command(&format!("export {name}='{value}'"));
    }
    narrator.command("export DELTACOMPARE_BASE_PASSWORD=…  DELTACOMPARE_HEAD_PASSWORD=…");
    program.run(narrator, base, head, &["plan"]).await?;
    let arguments = program.recovery_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    program.run(narrator, base, head, &arguments).await
}

fn compare_with_what_was_lost(
    narrator: &Narrator,
    program: &Program,
    missed: &Tally,
) -> Result<Events> {
    narrator.chapter("What was lost, what was recovered");
    let events = Events::read(&program.events_file())?;
    tally::print(missed, &events.tally());
    narrator.say(
        "Fewer events than changes, because only the net change is needed: rows that changed twice \
         need one event; rows rewritten without a change, and rows that came and went within the \
         gap, need none. A row whose key changed needs two: the old key's delete and the new key's \
         insert.",
    );
    let (base_end, head_end) = program.ends()?;
    narrator.say(&format!(
        "base was restored to LSN {base_end}, head to LSN {head_end}, on one history."
    ));
    Ok(events)
}

async fn prove(
    narrator: &Narrator,
    program: &Program,
    base: &Server,
    head: &Server,
    events: &Events,
) -> Result<()> {
    narrator.chapter("The proof: base, with the events applied, is head");
    narrator.say(
        "This check shares no code with DeltaCompare. It reads every row of both servers as COPY \
         prints it, applies the events of the file to base's rows, and compares with head's, byte \
         for byte:",
    );
    for table in &shop::TABLES {
        let of_table = events.of(table);
        let proved = narrator
            .timed(&format!("{:<16}", table.name), proof::check(base, head, table, of_table))
            .await?;
        narrator.item(&format!(
            "{} rows of base and {} events make {} rows: exactly head's",
            count(proved.base_rows),
            count(proved.events),
            count(proved.head_rows)
        ));
    }
    proof::check_that_it_can_fail(base, head, events).await?;
    narrator.say("With one event left out the same check fails, as it must.");
    let same = proof::check_delta_table(head, &program.recovery_id()?, events).await?;
    narrator.say(&format!(
        "deltacompare.delta on head holds the same {} events as the file.",
        count(same)
    ));
    narrator.good("Proved: apply(base, events) == head, for every table.");
    Ok(())
}

fn show(narrator: &Narrator, program: &Program, events: &Events) -> Result<()> {
    narrator.chapter("The events");
    for op in ["I", "U", "D"] {
        let sample = events.sample(op).with_context(|| format!("there is no event {op}"))?;
        narrator.quote(sample);
    }
    narrator.say(&format!(
        "All {} of them: {}",
        count(events.len()),
        program.events_file().display()
    ));
    narrator.say(&format!("The report:  {}", program.report_file().display()));
    Ok(())
}

async fn tidy(narrator: &Narrator, program: &Program, base: &Server, head: &Server) -> Result<()> {
    narrator.chapter("Leaving nothing behind");
    program.run(narrator, base, head, &["cleanup"]).await?;
    narrator.say("The three servers of this demo end now; their folder is removed.");
    Ok(())
}
