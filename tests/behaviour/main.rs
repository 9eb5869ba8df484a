//! Behaviour, against real servers that were really restored. One module a behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and tells how far it came"
)]

mod client;
mod content;
mod dashboard;
mod event_hub;
mod example_consumer;
mod fdw_traps;
mod functions_faults;
mod functions_hosted;
mod functions_http;
mod functions_kills;
mod functions_package;
mod functions_recovery;
mod gap_proof;
mod gap_recovery;
mod identity;
mod keyless;
mod live_stream;
mod load;
mod message_keys;
mod network_trouble;
mod progress_and_report;
mod publication_semantics;
mod random_publications;
mod random_schemas;
mod readme;
mod record;
mod redelivery;
mod refusals;
mod restored_servers;
mod rights;
mod runbook;
mod secrets;
mod side_by_side;
mod slot_oracle;
mod support;
mod telemetry;
mod tls;
mod value_roundtrip;
mod vault;
mod verification;
