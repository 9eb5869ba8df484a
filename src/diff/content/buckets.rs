//! How a step's keys are dealt into buckets, in the same way on both sides.

use super::BUCKETS;
use crate::diff::{Source, Tables, checksum};

/// Fewer would make each bucket that differs a large part of a step.
const FEWEST_RANGES: u32 = 16;

/// The buckets of one step, numbered from 0 to below [`BUCKETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buckets {
    /// By a hash of the key.
    Hashed,
    /// Neighbouring integers from the first key to the last, so many a bucket.
    Ranges { first: i64, last: i64, width: i64 },
}

impl Buckets {
    /// So many buckets at most, at most [`BUCKETS`], for integer keys from `first` to `last`. By hash
    /// where these would be too few.
    pub(super) fn of_integers(first: i128, last: i128, most: u32) -> Self {
        if most < FEWEST_RANGES {
            return Self::Hashed;
        }
        let width = (last - first).max(0) / i128::from(most.min(BUCKETS)) + 1;
        // A difference of two keys must not overflow on the servers.
        let fits = i64::try_from(last - first).is_ok();
        match (i64::try_from(first), i64::try_from(last), i64::try_from(width)) {
            (Ok(first), Ok(last), Ok(width)) if fits => Self::Ranges { first, last, width },
            _ => Self::Hashed,
        }
    }

    /// The number of a row's bucket, as an expression, where they are dealt by hash.
    pub(super) fn hashed(tables: &Tables, source: &Source, key: &[usize], alias: &str) -> String {
        format!("({} & {})", checksum::of_key(tables, source, key, alias), BUCKETS - 1)
    }

    /// The first keys of all buckets and their last ones, in order; `None` if keys of a bucket are
    /// not neighbours.
    pub(super) fn all(self) -> Option<(Vec<i64>, Vec<i64>)> {
        let Self::Ranges { first, last, width } = self else { return None };
        // The last bucket may reach past the end, even past the last integer.
        let starts = (0..i64::from(BUCKETS)).map_while(|number| {
            first.checked_add(number.checked_mul(width)?).filter(|&start| start <= last)
        });
        Some(starts.map(|start| (start, start.saturating_add(width - 1).min(last))).unzip())
    }

    /// The first and the last key of these buckets, neighbours merged; `None` if keys of a bucket
    /// are not neighbours. `numbers` ascend.
    pub(super) fn ranges(self, numbers: &[i64]) -> Option<Vec<(i64, i64)>> {
        let Self::Ranges { first, last: end, width } = self else { return None };
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for number in numbers {
            // The last bucket may reach past the end, even past the last integer.
            let low = first.saturating_add(number.saturating_mul(width));
            let high = low.saturating_add(width - 1).min(end);
            match ranges.last_mut() {
                Some(last) if last.1.checked_add(1) == Some(low) => last.1 = high,
                _ => ranges.push((low, high)),
            }
        }
        Some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_few_and_cover_every_key() {
        let most = i128::from(i64::MAX);
        for (first, last) in
            [(1, 1), (1, 256), (1, 257), (-500, 9999), (0, most), (most - 3, most), (-most - 1, -2)]
        {
            let Buckets::Ranges { first: from, width, .. } =
                Buckets::of_integers(first, last, BUCKETS)
            else {
                panic!("{first} to {last}");
            };
            assert_eq!(i128::from(from), first);
            assert!((last - first) / i128::from(width) < i128::from(BUCKETS), "{first} to {last}");
            let buckets = Buckets::of_integers(first, last, BUCKETS);
            let (lows, highs) = buckets.all().unwrap();
            assert!(lows.iter().zip(&highs).all(|(low, high)| low <= high), "{first} to {last}");
            assert!(lows.iter().skip(1).zip(&highs).all(|(low, high)| *low == high + 1));
            // What has rows is what may be read.
            let all: Vec<i64> = (0..lows.len() as i64).collect();
            let read = buckets.ranges(&all).unwrap();
            assert_eq!(read, [(lows[0], highs[highs.len() - 1])], "{first} to {last}");
            assert_eq!((i128::from(read[0].0), i128::from(read[0].1)), (first, last));
        }
        assert_eq!(Buckets::of_integers(-most - 1, most, BUCKETS), Buckets::Hashed);
        assert_eq!(Buckets::of_integers(1, 256, FEWEST_RANGES - 1), Buckets::Hashed);
    }

    #[test]
    fn neighbours_are_read_together() {
        let buckets = Buckets::of_integers(1, 2560, 256);
        let ranges = buckets.ranges(&[0, 1, 3, 255]).unwrap();
        assert_eq!(ranges, [(1, 20), (31, 40), (2551, 2560)]);
        assert_eq!(Buckets::of_integers(1, 2559, 256).ranges(&[255]).unwrap(), [(2551, 2559)]);
        assert_eq!(Buckets::Hashed.ranges(&[0]), None);
    }
}
