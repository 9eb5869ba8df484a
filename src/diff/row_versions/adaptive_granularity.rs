//! How closely row versions are looked at, by how much of what was seen so far differs.

use super::GROUP;

/// Blocks that are looked at by one query on each side, and the distance of checkpoints.
const WINDOW: u32 = 8192;
/// The first window, so that little is lost if the granularity does not fit.
const FIRST_WINDOW: u32 = 256;
/// Blocks of a group while little differs: each group costs something of its own.
const LARGE_GROUP: u32 = 64;
// Only a range's last group may be shorter.
const _: () = assert!(
    FIRST_WINDOW.is_multiple_of(LARGE_GROUP)
        && WINDOW.is_multiple_of(LARGE_GROUP)
        && LARGE_GROUP.is_multiple_of(GROUP)
);

/// How closely the next window is looked at.
pub(super) struct AdaptiveGranularity {
    look: Look,
    /// Equal groups are wanted, and small ones.
    small_only: bool,
    /// Row versions may be listed without a look at fingerprints.
    lists: bool,
    first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Fingerprints of large groups, and of small ones in those that differ.
    Large,
    /// Fingerprints of small groups.
    Small,
    /// The row versions of every group.
    Lists,
}

impl AdaptiveGranularity {
    /// For a range that nothing is known of.
    pub(super) fn new(small_only: bool) -> Self {
        let look = if small_only { Look::Small } else { Look::Large };
        Self { look, small_only, lists: !small_only, first: true }
    }

    /// The same, but all rows are counted.
    pub(super) fn of_fingerprints(small_only: bool) -> Self {
        Self { lists: false, ..Self::new(small_only) }
    }

    /// Blocks of the next window.
    pub(super) fn window(&self) -> u32 {
        if self.first { FIRST_WINDOW } else { WINDOW }
    }

    /// Blocks of the groups to be fingerprinted; `None` if that is not worth it.
    pub(super) fn group(&self) -> Option<u32> {
        match self.look {
            Look::Large => Some(LARGE_GROUP),
            Look::Small => Some(GROUP),
            Look::Lists => None,
        }
    }

    /// So many of the groups were fingerprinted and so many of them differ.
    pub(super) fn fingerprinted(&mut self, groups: usize, differing: usize) {
        self.first = false;
        if self.small_only {
            return;
        }
        self.look = match self.look {
            // Nearly all blocks are in groups that are looked at twice.
            Look::Large if 4 * differing > groups => Look::Small,
            Look::Small if self.lists && 4 * differing > 3 * groups => Look::Lists,
            // A large group holds sixteen of these.
            Look::Small if 64 * differing < groups => Look::Large,
            look => look,
        };
    }

    /// The large groups that differ were fingerprinted again as so many small ones, of which so many
    /// differ.
    pub(super) fn fingerprinted_again(&mut self, groups: usize, differing: usize) {
        if self.look == Look::Small {
            self.fingerprinted(groups, differing);
        }
    }

    /// So many of the row versions that were listed are on one side only.
    pub(super) fn listed(&mut self, tuples: u64, changed: u64) {
        // Fewer than one in two small groups.
        if 400 * changed < tuples {
            self.look = Look::Small;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_what_differs_and_comes_back() {
        let mut granularity = AdaptiveGranularity::new(false);
        assert_eq!((granularity.window(), granularity.group()), (FIRST_WINDOW, Some(LARGE_GROUP)));
        granularity.fingerprinted(4, 4);
        assert_eq!((granularity.window(), granularity.group()), (WINDOW, Some(GROUP)));
        granularity.fingerprinted_again(64, 20);
        assert_eq!(granularity.group(), Some(GROUP));
        granularity.fingerprinted_again(64, 64);
        assert_eq!(granularity.group(), None);
        granularity.listed(500_000, 100_000);
        assert_eq!(granularity.group(), None);
        granularity.listed(500_000, 10);
        assert_eq!(granularity.group(), Some(GROUP));
        granularity.fingerprinted(2048, 300);
        assert_eq!(granularity.group(), Some(GROUP));
        granularity.fingerprinted(2048, 3);
        assert_eq!(granularity.group(), Some(LARGE_GROUP));
        granularity.fingerprinted_again(16, 16);
        assert_eq!(granularity.group(), Some(LARGE_GROUP));
        // Where contents are compared too, equal groups must be known.
        let mut granularity = AdaptiveGranularity::new(true);
        granularity.fingerprinted(256, 256);
        assert_eq!(granularity.group(), Some(GROUP));
        granularity.fingerprinted(2048, 0);
        assert_eq!(granularity.group(), Some(GROUP));
    }
}
