//! The groups in which help, manual and docs/cli.md list options.

/// Where the two servers are and how to log in.
pub const SERVERS: &str = "Servers";
/// Which tables are compared, and how.
pub const SELECTION: &str = "Selection";
/// Where events go.
pub const SINKS: &str = "Sinks";
/// How events look.
pub const FORMAT: &str = "Format";
/// What is proved, and what is accepted although it cannot be.
pub const CHECKS: &str = "Checks";
/// How much is done at once, and what is kept.
pub const TUNING: &str = "Tuning";
