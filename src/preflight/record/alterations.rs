//! What became of a server's tables and publications between two moments.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{RecordedPublication, RecordedRelation};

/// What happened to a relation between two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alteration {
    /// The oids of the relation and of everything that it is a partition of or inherits from.
    pub(crate) line: Vec<u32>,
    /// A clause: `public.t is gone`.
    pub(crate) what: String,
}

/// The relations of one server at a moment, with the way to their ancestors.
pub(crate) struct RecordedRelations<'a>(BTreeMap<u32, &'a RecordedRelation>);

impl<'a> RecordedRelations<'a> {
    pub(crate) fn of(relations: &'a [RecordedRelation]) -> Self {
        Self(relations.iter().map(|relation| (relation.oid, relation)).collect())
    }

    /// A relation and everything that it is a partition of or inherits from.
    pub(crate) fn line(&self, relation: &'a RecordedRelation) -> Vec<&'a RecordedRelation> {
        let mut line = vec![relation];
        let mut at = 0;
        while let Some(one) = line.get(at) {
            let parents: Vec<&RecordedRelation> =
                one.parents.iter().filter_map(|oid| self.0.get(oid).copied()).collect();
            for parent in parents {
                if !line.iter().any(|known| known.oid == parent.oid) {
                    line.push(parent);
                }
            }
            at += 1;
        }
        line
    }

    /// What became until `now` of the relations that `covered` is true for; it gets each with the
    /// relations of its own moment.
    ///
    /// A file that became shorter is no alteration: vacuum cuts empty pages off its end. One that grew
    /// is, whatever the statistics say: nothing but a write extends a table's file, also one that was
    /// rolled back, or whose counts a crash took along.
    pub(crate) fn until(
        &self,
        now: &RecordedRelations<'a>,
        covered: impl Fn(&RecordedRelations<'a>, &'a RecordedRelation) -> bool,
    ) -> Vec<Alteration> {
        let mut alterations = Vec::new();
        let mut add = |of: &RecordedRelations<'a>, relation: &'a RecordedRelation, what: &str| {
            let line = of.line(relation).iter().map(|one| one.oid).collect();
            alterations.push(Alteration { line, what: format!("{} {what}", relation.name) });
        };
        for (oid, then) in &self.0 {
            if !covered(self, then) {
                continue;
            }
            let Some(found) = now.0.get(oid) else {
                add(self, then, "is gone");
                continue;
            };
            if found.filenode != then.filenode {
                add(self, then, "has another file (it was truncated or rewritten)");
            } else if let (Some(before), Some(after)) = (then.bytes, found.bytes)
                && after > before
            {
                add(self, then, &format!("has a file that grew by {} bytes", after - before));
            }
            if found.definition != then.definition {
                add(self, then, "has another definition");
            }
            if then.written > found.written {
                let rows = then.written;
                add(self, then, &format!("was written to ({rows} rows) before it was recorded"));
            }
        }
        for (oid, found) in &now.0 {
            if !self.0.contains_key(oid) && covered(now, found) {
                add(now, found, "is new");
            }
        }
        alterations
    }
}

/// What became of publications until `now`, as clauses: `publication "p" is gone`.
pub(crate) fn altered_publications(
    then: &[RecordedPublication],
    now: &[RecordedPublication],
) -> Vec<String> {
    let by_name = |publications: &[RecordedPublication]| -> BTreeMap<String, String> {
        let pairs = publications.iter().map(|it| (it.name.clone(), it.definition.clone()));
        pairs.collect()
    };
    let (then, now) = (by_name(then), by_name(now));
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (then.get(name), now.get(name)) {
            (Some(_), None) => Some(format!("publication {name:?} is gone")),
            (None, Some(_)) => Some(format!("publication {name:?} is new")),
            (then, now) if then != now => Some(format!("publication {name:?} was altered")),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;

    fn relation(oid: u32, name: &str) -> RecordedRelation {
        RecordedRelation {
            name: TableName { schema: "s".into(), name: name.into() },
            oid,
            filenode: oid,
            bytes: Some(8192),
            written: 0,
            parents: Vec::new(),
            published: true,
            altered: false,
            definition: "d".into(),
        }
    }

    fn until(then: &[RecordedRelation], now: &[RecordedRelation]) -> Vec<String> {
        let (then, now) = (RecordedRelations::of(then), RecordedRelations::of(now));
        then.until(&now, |_, _| true).into_iter().map(|alteration| alteration.what).collect()
    }

    #[test]
    fn a_file_may_become_shorter_and_not_longer() {
        let then = [relation(1, "t")];
        let with = |bytes| [RecordedRelation { bytes, ..relation(1, "t") }];
        assert_eq!(until(&then, &with(Some(0))), [""; 0]);
        assert_eq!(until(&then, &with(Some(8192))), [""; 0]);
        // Locked at one of the two moments.
        assert_eq!(until(&then, &with(None)), [""; 0]);
        assert_eq!(until(&with(None), &then), [""; 0]);
        assert_eq!(until(&then, &with(Some(16384))), ["s.t has a file that grew by 8192 bytes"]);
    }

    #[test]
    fn counts_that_a_crash_took_along_are_not_forgotten() {
        let then = [RecordedRelation { written: 3, ..relation(1, "t") }];
        let lost = [relation(1, "t")];
        assert_eq!(until(&then, &lost), ["s.t was written to (3 rows) before it was recorded"]);
        // Those that the statistics still have are told of with them.
        assert_eq!(until(&then, &then), [""; 0]);
        assert_eq!(until(&lost, &then), [""; 0]);
    }

    #[test]
    fn a_name_that_now_is_another_relation_s_is_gone_and_new() {
        let (then, now) = ([relation(1, "t")], [relation(2, "t")]);
        assert_eq!(until(&then, &now), ["s.t is gone", "s.t is new"]);
    }

    #[test]
    fn a_line_leads_to_every_ancestor_once() {
        let child = |oid, parents: &[u32]| RecordedRelation {
            parents: parents.to_vec(),
            ..relation(oid, "t")
        };
        // A loop cannot be, and would not hang either.
        let relations = [child(1, &[4]), child(2, &[1]), child(3, &[1]), child(4, &[2, 3, 9])];
        let all = RecordedRelations::of(&relations);
        let oids: Vec<u32> = all.line(&relations[3]).iter().map(|one| one.oid).collect();
        assert_eq!(oids, [4, 2, 3, 1]);
    }
}
