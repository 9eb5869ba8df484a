//! The items that a worker has claimed together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::Span;
use uuid::Uuid;

use super::live_counts::LiveCounts;
use super::store::Claim;
use super::trace;
use crate::error::{Error, ErrorKind};

/// Claimed items, one or several small ones, that are worked on one after the other. Shared by who
/// works on them, who renews their leases and who gives back what is left.
#[derive(Debug)]
pub(super) struct Batch {
    recovery: Uuid,
    claims: Vec<Claim>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// How each claim stands.
    claims: Vec<ClaimState>,
    at_work: AtWork,
    /// For how long items were put off, and what for.
    put_off: Option<(Duration, Option<Error>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimState {
    /// It is to be renewed.
    Held,
    /// What ends it is being stored: that it cannot be renewed does not mean that it is lost.
    Ending,
    /// That is stored.
    Ended,
}

/// The item that is worked on.
#[derive(Clone, Debug)]
pub(super) struct AtWork {
    /// Its place in the batch.
    pub(super) place: usize,
    pub(super) since: Instant,
    pub(super) live: Arc<LiveCounts>,
    /// What its lines in the log, and its trace, stand with.
    pub(super) span: Span,
}

impl Batch {
    pub(super) fn new(recovery: Uuid, claims: Vec<Claim>) -> Self {
        let at_work =
            AtWork { place: 0, since: Instant::now(), live: Arc::default(), span: Span::none() };
        let progress =
            Progress { claims: vec![ClaimState::Held; claims.len()], at_work, put_off: None };
        Self { recovery, claims, progress: Mutex::new(progress) }
    }

    pub(super) fn recovery(&self) -> Uuid {
        self.recovery
    }

    /// The claims in the order in which they are worked on.
    pub(super) fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// Says that an item is worked on from now on.
    pub(super) fn begin(&self, place: usize) -> AtWork {
        let claim = &self.claims[place];
        let live = Arc::new(LiveCounts::default());
        live.begin(claim.item.done.counts);
        let at_work = AtWork { place, since: Instant::now(), live, span: trace::span(claim) };
        self.progress().at_work = at_work.clone();
        at_work
    }

    /// The item that is worked on; before there is one, the first, without a span.
    pub(super) fn at_work(&self) -> AtWork {
        self.progress().at_work.clone()
    }

    /// Says that what ends a claim is about to be stored: from now on it is not renewed.
    pub(super) fn ending(&self, place: usize) {
        self.progress().claims[place] = ClaimState::Ending;
    }

    /// Says that a claim has ended, and that this is stored.
    pub(super) fn ended(&self, place: usize) {
        self.progress().claims[place] = ClaimState::Ended;
    }

    /// The number and the attempt of each claim that is to be renewed.
    pub(super) fn held(&self) -> Vec<(i32, i32)> {
        self.those(|state| state == ClaimState::Held)
    }

    /// The same of each claim whose end is not known to be stored.
    pub(super) fn left(&self) -> Vec<(i32, i32)> {
        self.those(|state| state != ClaimState::Ended)
    }

    /// Notes that items of the batch stay open, and are to be worked on after a while.
    pub(super) fn put_off(&self, after: Duration, trouble: Option<Error>) {
        let mut progress = self.progress();
        let (longest, first) = progress.put_off.take().unwrap_or_default();
        // Trouble that does not pass by itself is what an operator has to hear of.
        let passes = |error: &Error| error.kind() == ErrorKind::Transient;
        let trouble = match (first, trouble) {
            (Some(first), Some(next)) if passes(&first) && !passes(&next) => Some(next),
            (first, next) => first.or(next),
        };
        progress.put_off = Some((longest.max(after), trouble));
    }

    /// For how long items that stay open were put off, and what for; `None` if none are.
    pub(super) fn take_put_off(&self) -> Option<(Duration, Option<Error>)> {
        self.progress().put_off.take()
    }

    /// The error of a claim that does not hold any more.
    pub(super) fn lost(&self, number: i32) -> Error {
        let claim = self.claims.iter().find(|claim| claim.item.number == number);
        claim.unwrap_or(&self.claims[0]).lost()
    }

    fn those(&self, include: impl Fn(ClaimState) -> bool) -> Vec<(i32, i32)> {
        let progress = self.progress();
        let claims = self.claims.iter().zip(&progress.claims);
        claims.filter(|(_, state)| include(**state)).map(|(claim, _)| claim.key()).collect()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
