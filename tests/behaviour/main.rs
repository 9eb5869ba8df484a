//! Behaviour, against real servers that were really restored. One module a behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod gap_recovery;
mod readme;
mod refusals;
mod restored_servers;
mod support;
