//! Downstream: whoever reads the logical slot.

use anyhow::Result;
use deltacompare_testbed::Production;

use crate::shop;

/// The slot's name.
pub(crate) const SLOT: &str = "downstream";

/// A reader of the slot, as Debezium is one: `pgoutput`, and every message confirmed.
pub(crate) struct Consumer(());

impl Consumer {
    /// Creates the slot.
    pub(crate) async fn subscribe(production: &Production) -> Result<Self> {
        production.create_logical_slot(SLOT, "pgoutput").await?;
        Ok(Self(()))
    }

    /// Creates the slot once more, after it was lost, and yields where it begins.
    pub(crate) async fn subscribe_again(&self, production: &Production) -> Result<String> {
        production.create_logical_slot(SLOT, "pgoutput").await
    }

    /// Receives and confirms all that the slot has, and yields how many changes of rows that were.
    pub(crate) async fn receive(&self, production: &Production) -> Result<u64> {
        let messages = production.decode_messages(SLOT, shop::PUBLICATION).await?;
        // The first byte tells what a message is (PostgreSQL manual, "Logical Replication Message
        // Formats").
        let changes =
            messages.iter().filter(|message| matches!(message.first(), Some(b'I' | b'U' | b'D')));
        Ok(changes.count() as u64)
    }

    /// Receives the rest, then drops the slot. Yields the LSN that was confirmed.
    pub(crate) async fn lose(&self, production: &Production) -> Result<String> {
        self.receive(production).await?;
        let confirmed = production
            .value(format!(
                "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{SLOT}'"
            ))
            .await?;
        production.sql(format!("select pg_drop_replication_slot('{SLOT}')")).await?;
        Ok(confirmed)
    }
}
