//! One stream of changes out of two servers. Knows nothing of queues, Azure or JSON.

mod image;

pub use image::Image;

/// One difference between base and head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened to the row, with its images.
    pub row: RowChange,
    /// 0 for a row with a key. Without a key, equal rows are told apart by their ordinal: the n-th
    /// surplus copy of an image has ordinal n, counted from 0.
    pub ordinal: u64,
}

/// What happened to a row between base and head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// In head only; head's image.
    Insert(Image),
    /// In both, with different images.
    Update {
        /// Base's image.
        before: Image,
        /// Head's image.
        after: Image,
    },
    /// In base only; base's image.
    Delete(Image),
}
