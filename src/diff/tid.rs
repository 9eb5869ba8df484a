//! Tuple identifiers.

use std::error::Error;
use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::postgres::SqlType;
use crate::postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A tuple's place: block and line pointer. `Display` is PostgreSQL's text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tid {
    pub(super) block: u32,
    pub(super) offset: u16,
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

impl SqlType for Tid {
    const TYPE: Type = Type::TID;
    const ARRAY: Type = Type::TID_ARRAY;
}

impl ToSql for Tid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u32(self.block);
        out.put_u16(self.offset);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID
    }

    to_sql_checked!();
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
