//! Runs the stand-in for Event Hubs until Ctrl-C, to be looked at by hand.

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let hub = EventHubs::start(HubOptions::default()).await?;
    eprintln!("{}\n{}", hub.sink(), hub.emulator_connection_string());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
