//! Behaviour, against real servers that were really restored. One module a behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and tells how far it came"
)]

#[macro_use]
mod support;

mod account;
mod altered_restores;
mod assess;
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
mod functions_take_over;
mod gap_proof;
mod gap_recovery;
mod hand_over;
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
mod row_versions;
mod runbook;
mod secrets;
mod session_settings;
mod side_by_side;
mod slot_oracle;
mod small_tables;
mod stopped_statements;
mod telemetry;
mod tls;
mod transitions;
mod unreadable;
mod user_casts;
mod value_roundtrip;
mod vault;
mod verification;

fn main() -> std::process::ExitCode {
    support::main(
        [
            account::tests(),
            altered_restores::tests(),
            assess::tests(),
            cleanup::tests(),
            client::tests(),
            content::tests(),
            dashboard::tests(),
            delivered_events::tests(),
            event_hub::tests(),
            example_consumer::tests(),
            fdw_traps::tests(),
            functions_faults::tests(),
            functions_hosted::tests(),
            functions_http::tests(),
            functions_kills::tests(),
            functions_package::tests(),
            functions_recovery::tests(),
            functions_take_over::tests(),
            gap_proof::tests(),
            gap_recovery::tests(),
            hand_over::tests(),
            row_versions::tests(),
            keyless::tests(),
            late_record::tests(),
            live_stream::tests(),
            load::tests(),
            message_keys::tests(),
            network_trouble::tests(),
            orders::tests(),
            own_names::tests(),
            partition_identity::tests(),
            pooler::tests(),
            progress_and_report::tests(),
            publication_semantics::tests(),
            publications_together::tests(),
            random_publications::tests(),
            random_schemas::tests(),
            readme::tests(),
            record::tests(),
            redelivery::tests(),
            refusals::tests(),
            restored_servers::tests(),
            rights::tests(),
            runbook::tests(),
            secrets::tests(),
            session_settings::tests(),
            side_by_side::tests(),
            slot_oracle::tests(),
            small_tables::tests(),
            stopped_statements::tests(),
            telemetry::tests(),
            tls::tests(),
            transitions::tests(),
            unreadable::tests(),
            user_casts::tests(),
            value_roundtrip::tests(),
            vault::tests(),
            verification::tests(),
        ]
        .concat(),
    )
}
