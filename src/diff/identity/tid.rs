//! Tuple identifiers.

use std::fmt;

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo};
use sqlx::{Postgres, Type};

/// A tuple's place: block and line pointer. `Display` is PostgreSQL's text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::diff) struct Tid {
    pub(in crate::diff) block: u32,
    pub(in crate::diff) offset: u16,
}

impl From<[u8; 6]> for Tid {
    /// From what `tidsend` yields.
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self { block: u32::from_be_bytes([a, b, c, d]), offset: u16::from_be_bytes([e, f]) }
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.block, self.offset)
    }
}

impl Type<Postgres> for Tid {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(27))
    }
}

impl PgHasArrayType for Tid {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1010))
    }
}

impl Encode<'_, Postgres> for Tid {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.block.to_be_bytes());
        buffer.extend_from_slice(&self.offset.to_be_bytes());
        Ok(IsNull::No)
    }
}

/// The bounds of groups of `size` blocks, of blocks before `end`: where each begins, and where it
/// ends (exclusive). Bound as `tid[]`, they need no text that is read as a tuple identifier.
pub(super) fn bounds(groups: &[u32], size: u32, end: u32) -> (Vec<Tid>, Vec<Tid>) {
    let start = |block: u32| Tid { block, offset: 0 };
    groups.iter().map(|&block| (start(block), start(block.saturating_add(size).min(end)))).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_end_where_the_range_ends() {
        let blocks = |tids: Vec<Tid>| tids.iter().map(|tid| tid.block).collect::<Vec<_>>();
        let (from, to) = bounds(&[0, 4, u32::MAX - 2], 4, 6);
        assert_eq!((blocks(from), blocks(to)), (vec![0, 4, u32::MAX - 2], vec![4, 6, 6]));
        let (_, to) = bounds(&[u32::MAX - 2], 4, u32::MAX);
        assert_eq!(blocks(to), [u32::MAX]);
    }
}
