//! DeltaCompare recovers the changes that downstream missed while a PostgreSQL logical replication
//! slot was lost: it compares two point-in-time restores and emits what differs as events.

pub mod catalog;
pub mod diff;
pub mod event;
