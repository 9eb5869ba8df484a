//! Rows that came and went within the gap, as far as sequences tell of them.

use std::collections::BTreeMap;

use super::work_item::WorkItem;
use crate::error::Result;
use crate::postgres::{Session, from_row};

/// Values that a sequence is ahead of what it has handed out once its server was restored: it writes
/// to the WAL as if it had (PostgreSQL sources, sequence.c, `SEQ_LOG_VALS`).
const LOGGED_AHEAD: i64 = 32;

/// A sequence that fills a column of a table.
struct Sequence {
    relation: i64,
    oid: i64,
    name: String,
    last: Option<i64>,
    increment: i64,
    cycles: bool,
}

from_row!(Sequence { relation, oid, name, last, increment, cycles });

/// The sequences of some tables, by the tables' oids.
#[derive(Default)]
pub(super) struct Sequences(BTreeMap<i64, Vec<Sequence>>);

impl Sequences {
    /// # Errors
    /// PostgreSQL's own.
    pub(super) async fn of(connection: &Session, tables: &[i64]) -> Result<Self> {
        let found: Vec<Sequence> = connection
            .query(
                r#"
            select d.refobjid::int8 as relation, s.oid::int8 as oid,
                   format('%I.%I', n.nspname, s.relname) as name,
                   case when has_sequence_privilege(s.oid, 'select')
                        then pg_sequence_last_value(s.oid) end as last,
                   q.seqincrement as increment, q.seqcycle as cycles
              from pg_depend d
              join pg_class s on s.oid = d.objid and s.relkind = 'S'
              join pg_sequence q on q.seqrelid = s.oid
              join pg_namespace n on n.oid = s.relnamespace
             where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
               and d.refobjsubid > 0 and d.deptype in ('a', 'i')
               and d.refobjid = any ($1::int8[]::oid[])
             order by s.oid
            "#,
                &[&tables],
            )
            .await?;
        let mut sequences = BTreeMap::<i64, Vec<Sequence>>::new();
        for sequence in found {
            sequences.entry(sequence.relation).or_default().push(sequence);
        }
        Ok(Self(sequences))
    }
}

/// What an operator should know of a table whose sequence moved further than its rows did; `inserts`:
/// the rows that only head has. `None` where nothing tells of more.
pub(super) fn came_and_went(
    item: &WorkItem,
    on_base: &Sequences,
    on_head: &Sequences,
    inserts: u64,
) -> Option<String> {
    let base = on_base.0.get(&i64::from(item.spec.base_oid?))?;
    let head = on_head.0.get(&i64::from(item.spec.head_oid))?;
    base.iter().find_map(|before| {
        let after = head.iter().find(|after| after.oid == before.oid)?;
        let values = handed_out(before, after)?.checked_sub(i64::try_from(inserts).ok()?)?;
        (values > 0).then(|| {
            format!(
                "sequence {} handed out at least {values} values in the gap whose rows are not \
                 there: rows came and went, their transactions were rolled back, or setval() moved \
                 it; the stream would have sent rows that were committed, two states do not have \
                 them",
                after.name
            )
        })
    })
}

/// How many values a sequence handed out between two states at least.
fn handed_out(before: &Sequence, after: &Sequence) -> Option<i64> {
    let same = before.increment == after.increment && !before.cycles && !after.cycles;
    let moved = after.last?.checked_sub(before.last.filter(|_| same)?)?;
    moved.checked_div(before.increment)?.checked_sub(LOGGED_AHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_tells_how_many_values_were_taken_at_least() {
        let sequence = |last, increment, cycles| Sequence {
            relation: 1,
            oid: 2,
            name: "public.s".to_owned(),
            last,
            increment,
            cycles,
        };
        for (before, after, values) in [
            (sequence(Some(33), 1, false), sequence(Some(1033), 1, false), Some(968)),
            (sequence(Some(100), 10, false), sequence(Some(1100), 10, false), Some(68)),
            (sequence(Some(-10), -1, false), sequence(Some(-110), -1, false), Some(68)),
            (sequence(Some(33), 1, false), sequence(Some(33), 1, false), Some(-32)),
            (sequence(None, 1, false), sequence(Some(500), 1, false), None),
            (sequence(Some(1), 1, true), sequence(Some(500), 1, true), None),
            (sequence(Some(1), 1, false), sequence(Some(500), 2, false), None),
            (sequence(Some(i64::MIN), 1, false), sequence(Some(i64::MAX), 1, false), None),
            (sequence(Some(i64::MAX), 1, false), sequence(Some(1), 1, false), None),
            (sequence(Some(0), -1, false), sequence(Some(i64::MIN), -1, false), None),
        ] {
            assert_eq!(handed_out(&before, &after), values);
        }
    }
}
