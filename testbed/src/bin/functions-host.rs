//! Runs a packaged app as the Functions host does, with Azurite's queues: what `func start` does for
//! those who have Azure Functions Core Tools.
//!
//!     functions-host <folder> [--port 7071] [--instances 2]
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use deltacompare_testbed::Azurite;
use deltacompare_testbed::functions_host::{FunctionsHost, HostOptions};
use serde::Deserialize;

/// Runs a packaged app as the Functions host does.
#[derive(Debug, Parser)]
struct Arguments {
    /// The app, as scripts/layout makes it; its local.settings.json holds the settings
    folder: PathBuf,
    /// Where HTTP functions answer
    #[arg(long, default_value_t = 7071)]
    port: u16,
    /// How many handlers there are
    #[arg(long, default_value_t = 1)]
    instances: usize,
    /// Start an Azurite of its own, which is gone in the end, for this connection setting
    #[arg(long, value_name = "SETTING")]
    azurite: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LocalSettings {
    values: BTreeMap<String, String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let file = arguments.folder.join("local.settings.json");
    let text = std::fs::read(&file).with_context(|| {
        format!("cannot read {}; local.settings.example.json shows how it looks", file.display())
    })?;
    let mut settings: LocalSettings =
        serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
    let azurite = arguments.azurite.as_ref().map(|_| Azurite::start()).transpose()?;
    if let (Some(setting), Some(azurite)) = (arguments.azurite, &azurite) {
        settings.values.insert(setting, azurite.connection_string());
    }
    let options = HostOptions {
        settings: settings.values,
        instances: arguments.instances,
        port: arguments.port,
        echo: true,
        ..HostOptions::default()
    };
    let host = FunctionsHost::start(&arguments.folder, options).await?;
    println!("{}/api, x-functions-key: {}", host.url(), host.host_key());
    tokio::signal::ctrl_c().await?;
    host.stop().await;
    Ok(())
}
