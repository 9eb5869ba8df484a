//! Whether two restores cover the gap: whether anything that downstream missed lies outside them.

use super::lineage::OneHistory;
use crate::model::{GapProof, Lsn};

impl GapProof {
    /// Judges what the lost slot had confirmed (`lost_at`) and where the new slot begins
    /// (`new_slot`) by where the restores end; `history` is the reason if that is not known.
    pub(crate) fn judge(
        lost_at: Option<Lsn>,
        new_slot: Option<Lsn>,
        history: Result<&OneHistory, &str>,
    ) -> Self {
        let missing = match (lost_at, new_slot) {
            (None, None) => Some("neither --lost-at-lsn nor --new-slot-lsn was given"),
            (None, Some(_)) => Some("--lost-at-lsn was not given"),
            (Some(_), None) => Some("--new-slot-lsn was not given"),
            (Some(_), Some(_)) => None,
        };
        let history = match (history, missing) {
            (Ok(history), _) => history,
            (Err(why), None) => return Self::NotProvable { why: why.to_owned() },
            (Err(why), Some(missing)) => {
                return Self::NotProvable { why: format!("{missing}; {why}") };
            }
        };
        let OneHistory { base_end, head_end, left_at } = *history;
        let after_lost = lost_at.map_or(0, |lost| base_end.0.saturating_sub(lost.0));
        let before_new = new_slot.map_or(0, |new| new.0.saturating_sub(head_end.0));
        let (lost, new) = (lost_at.unwrap_or(base_end), new_slot.unwrap_or(head_end));
        let mut holes = Vec::new();
        if after_lost > 0 {
            holes.push(format!(
                "base ends at {base_end}, {after_lost} bytes after {lost}, which the lost slot had \
                 confirmed: what was committed in between is in both restores and cannot be \
                 found; restore base to an earlier moment"
            ));
        }
        if before_new > 0 {
            holes.push(format!(
                "head ends at {head_end}, {before_new} bytes before {new}, where the new slot \
                 begins: what was committed in between is in neither; restore head to a later \
                 moment"
            ));
        }
        if !holes.is_empty() {
            return Self::Violated { bytes: after_lost + before_new, why: holes.join("; ") };
        }
        if let Some(missing) = missing {
            return Self::NotProvable { why: missing.to_owned() };
        }
        if lost > left_at && left_at < head_end {
            return Self::NotProvable {
                why: format!(
                    "the lost slot had confirmed {lost}, but head left that timeline at {left_at} \
                     (a failover): downstream may have changes that head's history never had, and \
                     no comparison can take them back"
                ),
            };
        }
        Self::Proven {
            why: format!(
                "base ends at {base_end}, not after {lost}, which the lost slot had confirmed; \
                 head ends at {head_end}, not before {new}, where the new slot begins"
            ),
        }
    }
}

impl GapProof {
    /// The same once it is known how far the restores themselves can be trusted: when they were
    /// recorded, unaltered since, or why nothing can be said of that. Without it nothing is proven.
    pub(crate) fn of_restores(self, unaltered: Result<String, String>) -> Self {
        match (self, unaltered) {
            (Self::Proven { why }, Ok(recorded)) => {
                Self::Proven { why: format!("{why}; {recorded}") }
            }
            (Self::Proven { why }, Err(unknown)) => {
                Self::NotProvable { why: format!("{why}; but {unknown}") }
            }
            (Self::NotProvable { why }, Err(unknown)) => {
                Self::NotProvable { why: format!("{why}; {unknown}") }
            }
            (Self::Violated { bytes, why }, Err(unknown)) => {
                Self::Violated { bytes, why: format!("{why}; {unknown}") }
            }
            (same, Ok(_)) => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Base ends at 100, head at 200; a failover, if there was one, at `left_at`.
    fn judge(lost_at: Option<u64>, new_slot: Option<u64>, left_at: u64) -> GapProof {
        let history = OneHistory { base_end: Lsn(100), head_end: Lsn(200), left_at: Lsn(left_at) };
        GapProof::judge(lost_at.map(Lsn), new_slot.map(Lsn), Ok(&history))
    }

    #[test]
    fn ends_on_the_positions_prove_and_one_byte_off_violates() {
        for (lost, new) in [(100, 200), (101, 199), (150, 150)] {
            assert!(matches!(judge(Some(lost), Some(new), 200), GapProof::Proven { .. }));
        }
        for (lost, new, missing) in [(99, 200, 1), (100, 201, 1), (90, 250, 60)] {
            let verdict = judge(Some(lost), Some(new), 200);
            assert!(matches!(verdict, GapProof::Violated { bytes, .. } if bytes == missing));
        }
    }

    #[test]
    fn one_position_alone_can_only_violate() {
        assert!(matches!(judge(Some(99), None, 200), GapProof::Violated { bytes: 1, .. }));
        assert!(matches!(judge(None, Some(201), 200), GapProof::Violated { bytes: 1, .. }));
        for (lost, new) in [(Some(100), None), (None, Some(200)), (None, None)] {
            let verdict = judge(lost, new, 200).to_string();
            assert!(verdict.starts_with("not provable: ") && verdict.contains("-lsn was"));
        }
    }

    #[test]
    fn what_was_confirmed_beyond_a_failover_is_not_provable() {
        assert!(matches!(judge(Some(150), Some(180), 150), GapProof::Proven { .. }));
        let beyond = judge(Some(151), Some(180), 150);
        assert!(matches!(&beyond, GapProof::NotProvable { why } if why.contains("failover")));
        assert!(matches!(judge(Some(151), Some(201), 150), GapProof::Violated { .. }));
    }

    #[test]
    fn restores_that_may_have_been_altered_prove_nothing() {
        let proven = judge(Some(100), Some(200), 200);
        let said = proven.clone().of_restores(Ok("recorded".to_owned()));
        assert!(matches!(&said, GapProof::Proven { why } if why.ends_with("; recorded")));
        let said = proven.of_restores(Err("no record".to_owned()));
        assert!(matches!(&said, GapProof::NotProvable { why } if why.ends_with("; but no record")));
        for verdict in [judge(None, None, 200), judge(Some(90), Some(200), 200)] {
            let said = verdict.clone().of_restores(Err("no record".to_owned()));
            assert_eq!(said.to_string(), format!("{verdict}; no record"));
            assert_eq!(verdict.clone().of_restores(Ok("recorded".to_owned())), verdict);
        }
    }

    #[test]
    fn restores_of_unknown_history_prove_nothing() {
        let verdict = GapProof::judge(Some(Lsn(1)), Some(Lsn(2)), Err("other clusters"));
        assert_eq!(verdict.to_string(), "not provable: other clusters");
    }
}
