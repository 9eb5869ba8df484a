//! Which hub it is, and how many partitions it has.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::HubAddress;

/// What a recovery keeps of its hub as it was when the first of its processes opened it. A hub
/// cannot be asked for the events that it was given, but it can be asked whether it is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HubIncarnation {
    pub(super) partitions: usize,
    /// When it was made, in milliseconds since 1970, if the service says so.
    pub(super) created_at: Option<i64>,
}

impl HubIncarnation {
    /// Whether what is there `now` is the hub that a recovery `began` with. Yields a warning if it
    /// has more partitions by now.
    ///
    /// # Errors
    /// [`ErrorKind::EventsLost`] if it is another hub.
    pub(super) fn check(began: &Self, now: &Self, address: &HubAddress) -> Result<Option<String>> {
        let replaced =
            began.created_at.zip(now.created_at).is_some_and(|(began, now)| began != now);
        if replaced || now.partitions < began.partitions {
            return Err(Error::new(
                ErrorKind::EventsLost,
                format!(
                    "event hub {address} was deleted and made anew since the recovery began, and \
                     events that count as delivered went with it: begin a new recovery"
                ),
            ));
        }
        Ok((now.partitions > began.partitions).then(|| {
            format!(
                "event hub {address} grew from {} to {} partitions: this recovery sends to the \
                 first {} to its end, so that an event that is repeated goes where it was sent \
                 before; a key's streamed events may be in another partition by now, so consumers \
                 must compare versions across partitions",
                began.partitions, now.partitions, began.partitions
            )
        }))
    }
}
