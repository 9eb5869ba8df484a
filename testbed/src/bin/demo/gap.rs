//! The first half of the story: a slot is lost, time passes, the slot is back.

use anyhow::{Context, Result, ensure};
use deltacompare_testbed::{Options, Postgres, Production, RestorePoint};
use serde_json::Value;

use crate::consumer::{Consumer, SLOT};
use crate::narrator::{Narrator, count};
use crate::shop::{self, Shop};
use crate::tally::Tally;
use crate::traffic;

/// What is known after the gap.
pub(crate) struct Gap {
    pub(crate) production: Production,
    /// When the slot was lost, and when it was back.
    pub(crate) lost: RestorePoint,
    pub(crate) back: RestorePoint,
    /// The LSN up to which the lost slot had delivered.
    pub(crate) confirmed: String,
    /// The LSN where the new slot begins.
    pub(crate) consistent: String,
    /// The new slot's `restart_lsn`.
    pub(crate) restart: String,
    /// What was changed in between.
    pub(crate) missed: Tally,
}

impl Gap {
    pub(crate) async fn happens(narrator: &Narrator, shop: &Shop) -> Result<Self> {
        let (production, consumer) = open(narrator, shop).await?;
        let (lost, confirmed) = lose_the_slot(narrator, &production, &consumer).await?;
        let missed = trade_without_a_slot(narrator, &production, shop).await?;
        let (back, consistent, restart) =
            bring_the_slot_back(narrator, &production, shop, &consumer).await?;
        Ok(Self { production, lost, back, confirmed, consistent, restart, missed })
    }

    /// Where the slots stood, for the program.
    pub(crate) fn slots(&self) -> [String; 6] {
        [
            "--lost-at-lsn",
            &self.confirmed,
            "--new-slot-lsn",
            &self.consistent,
            "--new-slot-restart-lsn",
            &self.restart,
        ]
        .map(str::to_owned)
    }

    /// The same for the app.
    pub(crate) fn say_slots(&self, body: &mut Value) {
        body["lost_at_lsn"] = self.confirmed.as_str().into();
        body["new_slot_lsn"] = self.consistent.as_str().into();
        body["new_slot_restart_lsn"] = self.restart.as_str().into();
    }

    /// Where base's and head's recovery ended, by a recovery's status.
    ///
    /// # Errors
    /// Something fell between the lost slot and base, or between head and the new slot.
    pub(crate) fn covered_by(&self, status: &Value) -> Result<(String, String)> {
        let lsn = |name: &str| {
            let lsn = status[name].as_str().map(str::to_owned);
            lsn.with_context(|| format!("the status has no {name}"))
        };
        let (base, head) = (lsn("base_end_lsn")?, lsn("head_end_lsn")?);
        let position = |lsn: &str| -> Result<u64> {
            let (high, low) = lsn.split_once('/').with_context(|| format!("{lsn} is no LSN"))?;
            Ok(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?)
        };
        ensure!(
            position(&base)? <= position(&self.confirmed)?,
            "base ends after the slot was lost"
        );
        ensure!(
            position(&head)? >= position(&self.consistent)?,
            "head ends before the slot is back"
        );
        Ok((base, head))
    }
}

async fn open(narrator: &Narrator, shop: &Shop) -> Result<(Production, Consumer)> {
    narrator.chapter("A shop, and a consumer that follows it");
    let postgres = Postgres::find(None)?;
    let options =
        Options { wal_segment_mb: 16, folder: Some(std::env::temp_dir()), ..Options::default() };
    let production = narrator
        .timed(
            &format!("starting production: PostgreSQL {}, archiving its WAL …", postgres.major()),
            Production::start(&postgres, options),
        )
        .await?;
    let tables = shop::TABLES.len();
    let loading = format!("loading {} rows into {tables} tables …", count(shop.rows()));
    narrator.timed(&loading, shop.load(&production)).await?;
    narrator.timed("taking a base backup while it runs …", production.base_backup()).await?;
    let consumer = Consumer::subscribe(&production).await?;
    let seen = traffic::play(&production, &shop.before_the_loss()).await?;
    let received = consumer.receive(&production).await?;
    ensure!(received == seen.total(), "the consumer received {received}, not {}", seen.total());
    narrator.say(&format!(
        "Publication {} publishes all {tables} tables. The consumer reads the logical slot {SLOT} \
         and has received all {} changes made since.",
        shop::PUBLICATION,
        count(received),
    ));
    Ok((production, consumer))
}

async fn lose_the_slot(
    narrator: &Narrator,
    production: &Production,
    consumer: &Consumer,
) -> Result<(RestorePoint, String)> {
    narrator.chapter("The slot is lost");
    let lost = production.restore_point("lost").await?;
    let confirmed = consumer.lose(production).await?;
    narrator.command(&format!("select pg_drop_replication_slot('{SLOT}');"));
    narrator.say(&format!(
        "The consumer had confirmed everything up to LSN {confirmed} (confirmed_flush_lsn). From \
         here on nobody keeps for it what changes. A failover or max_slot_wal_keep_size has the \
         same effect."
    ));
    Ok((lost, confirmed))
}

async fn trade_without_a_slot(
    narrator: &Narrator,
    production: &Production,
    shop: &Shop,
) -> Result<Tally> {
    narrator.chapter("A busy gap: the shop goes on, downstream hears nothing");
    let transactions = shop.in_the_gap();
    let missed = narrator
        .timed("trading without a slot …", traffic::play(production, &transactions))
        .await?;
    for transaction in transactions.iter().filter(|transaction| !transaction.what.is_empty()) {
        narrator.item(transaction.what);
    }
    narrator.say(&format!("{} rows inserted, updated or deleted.", count(missed.total())));
    Ok(missed)
}

async fn bring_the_slot_back(
    narrator: &Narrator,
    production: &Production,
    shop: &Shop,
    consumer: &Consumer,
) -> Result<(RestorePoint, String, String)> {
    narrator.chapter("The slot is back");
    let consistent = consumer.subscribe_again(production).await?;
    let restart = production
        .value(format!(
            "select restart_lsn::text from pg_replication_slots where slot_name = '{SLOT}'"
        ))
        .await?;
    narrator.command(&format!("select pg_create_logical_replication_slot('{SLOT}', 'pgoutput');"));
    let back = production.restore_point("back").await?;
    let later = traffic::play(production, &shop.after_the_return()).await?;
    let received = consumer.receive(production).await?;
    ensure!(received == later.total(), "the consumer received {received}, not {}", later.total());
    narrator.say(&format!(
        "It begins at LSN {consistent} and knows nothing older. The shop goes on, and the consumer \
         receives the {} changes made from now on; these must not be recovered.",
        count(received),
    ));
    Ok((back, consistent, restart))
}
