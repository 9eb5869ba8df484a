//! Whether the restores still are what they were when they were recorded.

use std::collections::BTreeSet;

use super::Findings;
use super::record::{RecordedRelations, altered_publications, publications, relations};
use crate::catalog::Selection;
use crate::error::Result;
use crate::model::{Record, Recorded, RecordedRelation};
use crate::postgres::{Session, Side};

/// Why two restores without a record prove nothing.
const NO_RECORD: &str = "whether the restores were altered after they were made (by truncate or \
                         DDL, which no statistics count) is not known: run deltacompare record \
                         --file <file> right after the restores, and name that file with --recorded";

/// Alterations that one sentence names at most.
const NAMED: usize = 100;

/// One server, and what a request compares there.
pub(super) struct Compared<'a> {
    pub(super) side: Side,
    pub(super) connection: &'a Session,
    /// The next transaction id, with its epoch.
    pub(super) next_transaction: i64,
    /// The oids of the tables, and of the partitions that hold their rows.
    pub(super) oids: BTreeSet<u32>,
}

/// Compares both servers with the record. Whatever of the selection is not as it was recorded is
/// refused by name, or a warning if the request accepts restores that were written to.
///
/// Yields how far the restores are known to be unaltered, for the verdict on the gap: a clause that
/// says when they were recorded, or, as an error, why nothing can be said.
///
/// # Errors
/// A server cannot be asked.
pub(super) async fn since_recorded(
    record: Option<&Record>,
    base: Compared<'_>,
    head: Compared<'_>,
    selection: &Selection,
    accept: bool,
    findings: &mut Findings,
) -> Result<Result<String, String>> {
    let Some(record) = record else { return Ok(Err(NO_RECORD.to_owned())) };
    let mut whens = Vec::new();
    let mut unknown = Vec::new();
    for (recorded, compared) in [(&record.base, base), (&record.head, head)] {
        let side = compared.side;
        let Some(then) = &recorded.relations else { return Ok(Err(NO_RECORD.to_owned())) };
        let altered_before = covered_names(then, &compared.oids, selection, side);
        if !altered_before.is_empty() {
            unknown.push(format!(
                "{} was altered (or rights on it were changed) after its recovery had ended and \
                 before it was recorded",
                list(&altered_before)
            ));
        }
        let since = transactions_since(recorded, compared.next_transaction);
        let altered = altered(recorded, then, compared, selection).await?;
        if !altered.is_empty() {
            unknown.push(format!("{side} was altered since it was recorded"));
            let (at, altered) = (recorded.at, list(&altered));
            if accept {
                findings.warn(format!(
                    "{side} was altered since it was recorded at {at}: {altered}; the result is not \
                     proved for these"
                ));
            } else {
                findings.refuse(format!(
                    "{side} was altered since it was recorded at {at}: {altered}; restore it again \
                     and keep everybody away from it, leave the tables out with --exclude, or \
                     compare what is there with --accept written"
                ));
            }
        }
        whens.push(format!("{side} was recorded {}{since}", recorded.when()));
    }
    Ok(match unknown.is_empty() {
        true => Ok(format!("neither restore was altered since: {}", whens.join(", "))),
        false => Err(unknown.join("; ")),
    })
}

/// How many transactions wrote something on a server since it was recorded, for people; ours among
/// them. Their writes to tables are known by counts alone.
fn transactions_since(recorded: &Recorded, next_transaction: i64) -> String {
    let since =
        recorded.next_transaction.map(|then| (next_transaction as u64).saturating_sub(then));
    match since {
        None | Some(0) => String::new(),
        Some(1) => "; 1 transaction has written there since".to_owned(),
        Some(many) => format!("; {many} transactions have written there since"),
    }
}

/// What became of one server since it was recorded, as far as it concerns the selection.
async fn altered(
    recorded: &Recorded,
    then: &[RecordedRelation],
    compared: Compared<'_>,
    selection: &Selection,
) -> Result<Vec<String>> {
    let Compared { connection, oids, next_transaction, .. } = compared;
    let now = relations(connection, 0, recorded.newest_oid).await?;
    let publications_now = publications(connection).await?;
    let alterations = RecordedRelations::of(then)
        .until(&RecordedRelations::of(&now), |relations, relation| {
            is_covered(relations, relation, &oids, selection)
        });
    let mut altered: Vec<String> =
        alterations.into_iter().map(|alteration| alteration.what).collect();
    let selected =
        |name: &String| selection.publications.is_empty() || selection.publications.contains(name);
    let of_selected = |publications: &[crate::model::RecordedPublication]| {
        publications.iter().filter(|it| selected(&it.name)).cloned().collect::<Vec<_>>()
    };
    altered.extend(altered_publications(
        &of_selected(&recorded.publications),
        &of_selected(&publications_now),
    ));
    if let Some(next) = recorded.next_transaction
        && next > next_transaction as u64
    {
        altered.push(format!(
            "its next transaction id was {next} and is {next_transaction} (it was restored again)"
        ));
    }
    Ok(altered)
}

/// Whether a selection concerns a relation: it is compared now, or would be if it still were as it
/// was: by its name or that of what it is a part of, or else since it is published.
fn is_covered<'a>(
    relations: &RecordedRelations<'a>,
    relation: &'a RecordedRelation,
    compared: &BTreeSet<u32>,
    selection: &Selection,
) -> bool {
    if compared.contains(&relation.oid) {
        return true;
    }
    let line = relations.line(relation);
    if line.iter().any(|one| selection.exclude.contains(&one.name)) {
        return false;
    }
    if selection.tables.is_empty() {
        line.iter().any(|one| one.published)
    } else {
        line.iter().any(|one| selection.tables.contains(&one.name))
    }
}

/// Those that were altered before they were recorded.
fn covered_names(
    then: &[RecordedRelation],
    compared: &BTreeSet<u32>,
    selection: &Selection,
    side: Side,
) -> Vec<String> {
    let all = RecordedRelations::of(then);
    then.iter()
        .filter(|relation| relation.altered && is_covered(&all, relation, compared, selection))
        .map(|relation| format!("{} on {side}", relation.name))
        .collect()
}

/// What became of a server's relations since it was recorded: each with the oids of the relation
/// and of all that it is a part of.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn altered_relations(
    recorded: &Recorded,
    connection: &Session,
) -> Result<Vec<(Vec<u32>, String)>> {
    let Some(then) = &recorded.relations else { return Ok(Vec::new()) };
    let now = relations(connection, 0, recorded.newest_oid).await?;
    let alterations = RecordedRelations::of(then).until(&RecordedRelations::of(&now), |_, _| true);
    Ok(alterations.into_iter().map(|alteration| (alteration.line, alteration.what)).collect())
}

fn list(clauses: &[String]) -> String {
    match clauses.len().saturating_sub(NAMED) {
        0 => clauses.join(", "),
        more => format!("{} and {more} more", clauses[..NAMED].join(", ")),
    }
}
