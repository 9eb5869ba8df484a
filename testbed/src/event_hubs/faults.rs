//! What goes wrong on command.

use std::time::Duration;

/// Something that the service does to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Rejected: throttled.
    ServerBusy,
    /// Rejected: larger than the service takes.
    TooLarge,
    /// Given back as not stored.
    Modified,
    /// Given back as not looked at.
    Released,
    /// The link is detached, the batch not stored.
    Detach,
    /// The link is detached since the token is not good any more.
    Unauthorized,
    /// The connection is closed with an error, the batch not stored.
    ConnectionForced,
    /// The socket is cut, the batch not stored.
    Cut,
    /// The batch is stored and the socket cut before the answer: it will come again.
    CutAfterStoring,
    /// The answer takes so long.
    Slow(Duration),
}

impl Fault {
    /// All that a soak draws from.
    pub const ALL: [Self; 10] = [
        Self::ServerBusy,
        Self::TooLarge,
        Self::Modified,
        Self::Released,
        Self::Detach,
        Self::Unauthorized,
        Self::ConnectionForced,
        Self::Cut,
        Self::CutAfterStoring,
        Self::Slow(Duration::from_millis(200)),
    ];
}

/// Which batches and tokens go wrong. Default: none.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    every: Vec<(u64, Fault)>,
    random: Option<(u64, u64)>,
    count: u64,
    cut_tokens: Option<u64>,
    tokens: u64,
}

impl Faults {
    /// Every n-th batch, over all partitions, counted from now.
    #[must_use]
    pub fn every(mut self, n: u64, fault: Fault) -> Self {
        self.every.push((n, fault));
        self
    }

    /// One batch in so many, with a fault by chance; the same for the same seed and order.
    #[must_use]
    pub fn random(seed: u64, one_in: u64) -> Self {
        Self { random: Some((seed.max(1), one_in)), ..Self::default() }
    }

    /// Cuts the socket at every n-th token that is shown, in place of the answer; over all
    /// connections, counted from now.
    #[must_use]
    pub fn cut_at_token(self, n: u64) -> Self {
        Self { cut_tokens: Some(n), ..self }
    }

    /// Whether the socket is to be cut at this token.
    pub(super) fn cuts_token(&mut self) -> bool {
        self.tokens += 1;
        self.cut_tokens.is_some_and(|n| self.tokens.is_multiple_of(n))
    }

    pub(super) fn next(&mut self) -> Option<Fault> {
        self.count += 1;
        if let Some((state, one_in)) = &mut self.random {
            // xorshift64
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            if *state % *one_in == 0 {
                let which = (*state / *one_in) as usize % Fault::ALL.len();
                return Some(Fault::ALL[which]);
            }
        }
        self.every.iter().find(|(n, _)| self.count.is_multiple_of(*n)).map(|(_, fault)| *fault)
    }
}
