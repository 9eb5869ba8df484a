//! What the log has of a work item: a span, whose fields stand with every line that is written
//! within it, and a line with the figures when it ends. The metrics have the same figures.
//! docs/operations.md has queries that read them.

use std::time::Duration;

use tracing::Span;

use super::store::Claim;
use super::work_item::ItemProgress;
use crate::diff::Scope;
use crate::telemetry::metrics::{self, Attempt};

/// The span of one attempt at an item. It names no key, since keys are data.
pub(super) fn span(claim: &Claim) -> Span {
    let item = &claim.item;
    let range = match &item.spec.scope {
        Scope::Blocks(range) => format!("blocks {}..{}", range.blocks.start, range.blocks.end),
        Scope::Keys(_) => "keys".to_owned(),
        Scope::Table
        | Scope::Multiset(_)
        | Scope::HashedVersions(_)
        | Scope::HashedKeys(_)
        | Scope::Rows(_) => "all".to_owned(),
    };
    tracing::info_span!(
        "work_item",
        recovery = %claim.recovery,
        item = item.number,
        table = %item.spec.tables.table.name,
        range,
        strategy = item.spec.strategy.as_str(),
        attempt = claim.attempt,
    )
}

/// The item is compared to its end, and its events are delivered.
pub(super) fn completed(claim: &Claim, done: &ItemProgress, took: Duration) {
    let counts = done.counts;
    metrics::attempted(Attempt::Completed);
    metrics::compared(claim.item.spec.strategy, claim.item.bytes);
    tracing::info!(
        inserts = counts.inserts,
        updates = counts.updates,
        deletes = counts.deletes,
        rows_compared = counts.rows_compared,
        bytes = claim.item.bytes,
        seconds = took.as_secs_f64(),
        "work item completed"
    );
}
