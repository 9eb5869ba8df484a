//! How head reads base: postgres_fdw with a throw-away role, in schemas of our own.
//!
//! Everything that a recovery creates on either server, the status tables aside, carries one name,
//! `deltacompare_<last 12 digits of the recovery's id>`:
//!
//! | server | object | what for |
//! |---|---|---|
//! | base | login role | what head logs in with; its password exists only for this recovery |
//! | base | schema | helper views, where a table cannot be read as it is (see [`tables`]) |
//! | head | foreign server, user mapping | the way to base |
//! | head | schema | one foreign table for each compared table |
//!
//! `CREATE USER MAPPING` shows its password to head's statement log and statistics, so the
//! operator's own password is never used for it.

mod cleanup;
mod link;
mod role;
mod tables;

pub(crate) use cleanup::remove;
pub use cleanup::{Remains, Removed};
pub(crate) use link::{FdwTarget, Link, probe};
pub(crate) use role::may_bypass_row_security;
pub(crate) use tables::{ForeignTable, check_grants, create_foreign_tables};

use uuid::Uuid;

use crate::catalog::MARKER;

/// The schema of the status tables, the delta table, and the extension where we created it.
pub(crate) const STATUS_SCHEMA: &str = "deltacompare";

/// Relations created or dropped in one transaction, which is one round trip; each holds locks in a
/// table of fixed size until its end.
const RELATIONS_PER_TRANSACTION: usize = 100;

/// The name of everything that this recovery creates on the two servers.
pub(crate) fn object_name(recovery: Uuid) -> String {
    format!("deltacompare_{}", &recovery.simple().to_string()[20..])
}
