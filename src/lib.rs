//! DeltaCompare recovers the changes that downstream missed while a PostgreSQL logical replication
//! slot was lost: it compares two point-in-time restores and emits what differs as events.
//!
//! One way through the program: [`model::Request`] → [`recovery::plan`] → work item → [`diff`]
//! (changes) → [`event`] (bytes) → sink → status and [`recovery::Report`].
//!
//! The modules form layers: each imports only from those below it. From the top: the command line
//! (`cli`, in the program), [`app`], [`config`], [`recovery`], [`preflight`], [`sink`], [`event`],
//! [`fdw`], [`diff`], [`catalog`], [`azure`], `secrets`, [`postgres`], [`telemetry`], [`model`],
//! [`crypto`], [`error`]. `tests/source/layers.rs` checks that.

pub mod app;
pub mod assessment;
pub mod azure;
pub mod catalog;
pub mod config;
pub mod crypto;
pub mod diff;
pub mod error;
pub mod event;
pub mod fdw;
pub mod model;
pub mod postgres;
pub mod preflight;
pub mod recovery;
mod secrets;
pub mod sink;
pub mod telemetry;
