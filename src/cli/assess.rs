//! `deltacompare assess`: what can be said of production before anything is restored or paid for.
#![allow(clippy::print_stdout, reason = "this is the program's output")]

use std::time::Duration;

use clap::Args;
use comfy_table::Cell;
use deltacompare::assessment::{Known, assess};
use deltacompare::config::ProductionSettings;
use deltacompare::error::Result;
use deltacompare::model::{AssessedDatabase, AssessedSlot, Assessment};
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use jiff::Timestamp;

use super::output::{table, to_json};

#[derive(Debug, Args)]
pub(super) struct AssessArguments {
    #[command(flatten)]
    production: ProductionSettings,
    /// The size of the server's disk in GiB: no statement of SQL tells it, and on Azure nothing else
    /// limits how long a slot lasts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    disk_gib: Option<u64>,
    /// For how many days the server's backups are kept
    #[arg(long, value_name = "N", default_value_t = 7,
          value_parser = clap::value_parser!(u16).range(1..=35))]
    retention_days: u16,
    /// A slot that must be there; may be repeated
    #[arg(long = "slot", value_name = "NAME")]
    slots: Vec<String>,
    /// When the slot was lost, if that is known: 2026-01-31T09:30:00Z
    #[arg(long, value_name = "TIME")]
    lost_at: Option<Timestamp>,
    /// For how many seconds to look at the rate of WAL
    #[arg(long, value_name = "S", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch_seconds: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl AssessArguments {
    /// Yields whether no slot is lost or will be soon.
    pub(super) async fn run(&self) -> Result<bool> {
        let known = Known {
            disk_bytes: self.disk_gib.map(|gib| gib << 30),
            retention_days: self.retention_days,
            slots: self.slots.clone(),
            lost_at: self.lost_at,
            watch: Duration::from_secs(self.watch_seconds),
        };
        let assessment = assess(&self.production.server()?, known).await?;
        if self.json {
            println!("{}", to_json(&assessment)?);
        } else {
            print(&assessment);
        }
        Ok(!assessment.needs_attention())
    }
}

fn print(found: &Assessment) {
    println!("{}, PostgreSQL {}, at {}", found.server, found.version, found.at);
    let left = found.free_bytes.map_or(String::new(), |bytes| {
        format!("; {} are left until it becomes read-only", HumanBytes(bytes))
    });
    println!("databases: {}{left}", HumanBytes(found.bytes));
    let rate = HumanBytes((found.wal.bytes_a_second() * 3600.0) as u64);
    println!("WAL: {rate} an hour");
    print_slots(&found.slots);
    print_databases(&found.databases);
    if let Some(loss) = &found.loss {
        let whether =
            if loss.restorable { "can be restored to until" } else { "could be restored to until" };
        println!("the moment of the loss, {}, {whether} {}", loss.at, loss.restorable_until);
    }
    println!(
        "two restores: {} each at least, on servers as large as this one, while they are compared",
        HumanBytes(found.bytes)
    );
    for requirement in &found.requirements {
        match requirement.met {
            true => println!("ok: {}", requirement.what),
            false => println!("missing: {}: {}", requirement.what, requirement.next),
        }
    }
    for what in &found.wakes {
        println!("warning: {what}: a copy goes on with it");
    }
}

fn print_slots(slots: &[AssessedSlot]) {
    if slots.is_empty() {
        println!(
            "slots: none; if there were some, a failover or a change of the server's size has taken \
             them, and all of them are lost"
        );
        return;
    }
    let mut table = table(&["slot", "database", "state", "hours left", "keeps", "failover"]);
    for slot in slots {
        table.add_row([
            Cell::new(&slot.name),
            Cell::new(slot.database.as_deref().unwrap_or("-")),
            Cell::new(slot.state.as_str().replace('_', " ")),
            Cell::new(slot.hours_left.map_or("-".to_owned(), |hours| format!("{hours:.1}"))),
            Cell::new(
                slot.retained_bytes.map_or("-".to_owned(), |bytes| HumanBytes(bytes).to_string()),
            ),
            Cell::new(if slot.survives_failover { "survives" } else { "is lost" }),
        ]);
    }
    println!("{table}");
    for slot in slots {
        println!("slot {}: {}", slot.name, slot.why);
    }
}

fn print_databases(databases: &[AssessedDatabase]) {
    let mut table = table(&[
        "database",
        "publications",
        "slots",
        "tables",
        "without a key",
        "size",
        "compared in",
    ]);
    for database in databases {
        let (least, most) = database.seconds;
        let time = |seconds| HumanDuration(Duration::from_secs(seconds)).to_string();
        let known = |text: String| if database.error.is_some() { "?".to_owned() } else { text };
        table.add_row([
            Cell::new(&database.name),
            Cell::new(known(database.publications.join(", "))),
            Cell::new(database.slots.join(", ")),
            Cell::new(known(HumanCount(database.tables).to_string())),
            Cell::new(known(HumanCount(database.without_key).to_string())),
            Cell::new(known(HumanBytes(database.table_bytes).to_string())),
            Cell::new(known(format!("{} to {}", time(least), time(most)))),
        ]);
    }
    println!("{table}");
    for database in databases {
        if let Some(error) = &database.error {
            println!("warning: {} could not be looked at: {error}", database.name);
        }
    }
}
