//! DeltaCompare recovers the changes that downstream missed while a PostgreSQL logical replication
//! slot was lost: it compares two point-in-time restores and emits what differs as events.
//!
//! One way through the program: [`recovery::Request`] → [`recovery::plan`] → work item →
//! [`diff`] (changes) → [`event`] (bytes) → sink → status and [`recovery::Report`].

pub mod catalog;
pub mod config;
pub mod diff;
pub mod error;
pub mod event;
pub mod fdw;
pub mod functions;
pub mod gap_proof;
pub mod identity;
pub mod lineage;
pub mod postgres;
pub mod preflight;
pub mod record;
pub mod recovery;
mod secrets;
pub mod sink;
pub mod telemetry;
#[cfg(test)]
mod troubleshooting;
