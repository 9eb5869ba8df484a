//! The rows of a step that is read whole, without those that are equal on both sides.

use bytes::Bytes;

/// Rows ahead in which an equal one is looked for where the two sides differ.
const AHEAD: usize = 4;

/// The lines of either side without those that lie at one place of the order and are equal. Where a
/// side has some lines more, the places move; where it has many, lines that are equal may remain.
pub(super) fn unequal<'a>(old: &'a [Bytes], new: &'a [Bytes]) -> (Vec<&'a Bytes>, Vec<&'a Bytes>) {
    let (mut old_left, mut new_left) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let more =
            |rows: &[Bytes], line: &Bytes| rows.iter().take(AHEAD).position(|row| row == line);
        let (more_old, more_new) = match more(&new[j + 1..], &old[i]) {
            Some(more) => (0, more + 1),
            None => more(&old[i + 1..], &new[j]).map_or((1, 1), |more| (more + 1, 0)),
        };
        old_left.extend(&old[i..i + more_old]);
        new_left.extend(&new[j..j + more_new]);
        (i, j) = (i + more_old, j + more_new);
    }
    old_left.extend(&old[i..]);
    new_left.extend(&new[j..]);
    (old_left, new_left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(old: &str, new: &str) -> (String, String) {
        let lines = |text: &str| -> Vec<Bytes> {
            text.split_whitespace().map(|line| Bytes::copy_from_slice(line.as_bytes())).collect()
        };
        let (old, new) = (lines(old), lines(new));
        let text = |lines: Vec<&Bytes>| {
            let lines = lines.into_iter().map(|line| std::str::from_utf8(line).unwrap());
            lines.collect::<Vec<_>>().join(" ")
        };
        let (old, new) = unequal(&old, &new);
        (text(old), text(new))
    }

    #[test]
    fn equal_lines_of_one_place_are_left_out() {
        for (old, new, old_left, new_left) in [
            ("", "", "", ""),
            ("1 2", "", "1 2", ""),
            ("", "1 2", "", "1 2"),
            ("1 2 3 4", "1 2 3 4", "", ""),
            ("1 2 3 4", "1 2' 3' 4", "2 3", "2' 3'"),
            ("1 2 3 4 5 6 7", "1 7", "2 3 4 5 6 7", "7"),
            ("1 2 3 4 5", "1 5", "2 3 4", ""),
            ("1 5 6", "0 1 2 3 4 5 6' 7 8", "6", "0 2 3 4 6' 7 8"),
            ("1 2 3", "2 1 3", "2", "2"),
        ] {
            let expected = (old_left.to_owned(), new_left.to_owned());
            assert_eq!(left(old, new), expected, "{old} | {new}");
        }
    }

    proptest::proptest! {
        /// What is left out is equal on both sides: the rest has the same differences.
        #[test]
        fn nothing_else_is_left_out(old in "([a-f] ){0,30}", new in "([a-f] ){0,30}") {
            let count = |text: &str, letter| text.matches(letter).count() as i64;
            let (old_left, new_left) = left(&old, &new);
            for letter in 'a'..='f' {
                proptest::prop_assert_eq!(
                    count(&old, letter) - count(&new, letter),
                    count(&old_left, letter) - count(&new_left, letter)
                );
            }
        }
    }
}
