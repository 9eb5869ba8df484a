//! Behaviour, against real servers that were really restored. One module a behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and tells how far it came"
)]

mod account;
mod altered_restores;
mod cleanup;
mod client;
mod content;
mod dashboard;
mod delivered_events;
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
mod late_record;
mod live_stream;
mod load;
mod message_keys;
mod network_trouble;
mod orders;
mod own_names;
mod partition_identity;
mod pooler;
mod progress_and_report;
mod publication_semantics;
mod publications_together;
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
mod session_settings;
mod side_by_side;
mod slot_oracle;
mod support;
mod telemetry;
mod tls;
mod user_casts;
mod value_roundtrip;
mod vault;
mod verification;
