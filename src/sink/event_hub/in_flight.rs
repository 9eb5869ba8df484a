//! The batches of one partition from when they are full until they are accepted.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::batch::Batch;

/// Batches that are under way at once.
const WINDOW: usize = 4;

/// The order of batches: the number of the batch, and of the piece of one that was too large.
pub(super) type BatchSequence = (u64, u32);

/// Every batch stays here until it is settled; one that is taken out to be sent comes back.
#[derive(Default)]
pub(super) struct InFlight {
    /// To be sent, also again.
    ready: BTreeMap<BatchSequence, Batch>,
    /// Under way, and since when.
    sent: BTreeMap<BatchSequence, (Batch, Instant)>,
    /// The place of the batch that is being filled.
    next: u64,
    /// Who waits for all before a place.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.sent.is_empty()
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.ready.len() < WINDOW
    }

    /// Whether a batch could be sent now.
    pub(super) fn could_send(&self) -> bool {
        !self.ready.is_empty() && self.sent.len() < WINDOW
    }

    /// When the oldest batch under way was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.sent.values().map(|(_, since)| *since).min()
    }

    /// Takes a full batch, after all others.
    pub(super) fn add(&mut self, batch: Batch) {
        self.ready.insert((self.next, 0), batch);
        self.next += 1;
    }

    /// The batch to send next, if one may be.
    pub(super) fn take(&mut self) -> Option<(BatchSequence, Batch)> {
        if self.could_send() { self.ready.pop_first() } else { None }
    }

    /// It was not sent, or not stored.
    pub(super) fn put_back(&mut self, place: BatchSequence, batch: Batch) {
        self.ready.insert(place, batch);
    }

    /// Puts the pieces of a batch in its place.
    pub(super) fn put_pieces(&mut self, (at, part): BatchSequence, pieces: Vec<Batch>) {
        let all = (at, 0)..=(at, u32::MAX);
        let ready = self.ready.range(all.clone()).next_back().map(|((_, part), _)| *part);
        let sent = self.sent.range(all).next_back().map(|((_, part), _)| *part);
        let last = ready.max(sent).unwrap_or(part).max(part);
        for (piece, part) in pieces.into_iter().zip(last + 1..) {
            self.ready.insert((at, part), piece);
        }
    }

    pub(super) fn sent(&mut self, place: BatchSequence, batch: Batch) {
        self.sent.insert(place, (batch, Instant::now()));
    }

    /// The batch that an outcome is for.
    pub(super) fn settle(&mut self, place: BatchSequence) -> Option<Batch> {
        self.sent.remove(&place).map(|(batch, _)| batch)
    }

    /// Takes back all that is under way, to be sent again. Yields the bytes of the largest.
    pub(super) fn take_back(&mut self) -> Option<usize> {
        let unsettled = std::mem::take(&mut self.sent);
        let largest = unsettled.values().map(|(batch, _)| batch.bytes).max();
        self.ready.extend(unsettled.into_iter().map(|(place, (batch, _))| (place, batch)));
        largest
    }

    /// Tells when all that was added before is accepted.
    pub(super) fn tell_when_accepted(&mut self, done: oneshot::Sender<()>) {
        self.waiting.push_back((self.next, done));
        self.tell();
    }

    /// Tells those whose events have all been accepted.
    pub(super) fn tell(&mut self) {
        let first_open = [self.ready.keys().next(), self.sent.keys().next()]
            .into_iter()
            .flatten()
            .map(|(at, _)| *at)
            .min()
            .unwrap_or(self.next);
        while self.waiting.front().is_some_and(|(before, _)| *before <= first_open) {
            if let Some((_, done)) = self.waiting.pop_front() {
                // Who waited may have gone.
                let _ = done.send(());
            }
        }
    }
}
