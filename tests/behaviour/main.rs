//! Behaviour, against real servers that were really restored. One module a behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and tells how far it came"
)]

mod content;
mod fdw_traps;
mod functions_package;
mod gap_proof;
mod gap_recovery;
mod identity;
mod message_keys;
mod progress_and_report;
mod random_schemas;
mod readme;
mod record;
mod redelivery;
mod refusals;
mod restored_servers;
mod rights;
mod secrets;
mod slot_oracle;
mod support;
mod tls;
mod vault;
