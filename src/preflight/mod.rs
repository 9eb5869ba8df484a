//! Everything that must hold before a recovery may change anything: the servers, the selection, the
//! rights. All refusals are collected, so that an operator meets them once and not one by one.

mod alterations;
mod coverage;
mod gap_proof;
mod isolation;
mod lineage;
mod locks;
mod names;
mod record;
mod related;
mod restores;
mod rights;

pub(crate) use alterations::altered_relations;
pub(crate) use isolation::login_triggers;
pub(crate) use locks::locked_tables;
pub(crate) use restores::{
    counts_lost, other_sessions, restore_ended, restore_id, same_restore, writers, written,
};
pub(crate) use rights::refuse_too_few_for_foreign;

use lineage::OneHistory;
use related::{Related, relate};

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::catalog::{self, SameStorage, Selection, Storage, TablePair};
use crate::diff::ReusedIds;
use crate::error::{Error, Result};
use crate::fdw::FdwTarget;
use crate::model::{Accept, GapProof, Lsn, Recorded, Request};
use crate::postgres::{Server, Session, Side};

/// The two servers of a recovery, as this process reaches them.
#[derive(Clone, Debug)]
pub struct Servers {
    /// The restore to the moment when the slot was lost.
    pub base: Server,
    /// The restore to the moment when the slot was back.
    pub head: Server,
}

impl Servers {
    /// Sessions on base and on head, neither of which is reached through a connection pooler.
    ///
    /// # Errors
    /// Refused, with both if it is so of both; or one cannot be reached.
    pub async fn connect_unpooled(&self, name: &str) -> Result<(Session, Session)> {
        match tokio::join!(self.base.connect_unpooled(name), self.head.connect_unpooled(name)) {
            (Err(base), Err(head)) if base.kind() == head.kind() => {
                Err(Error::new(base.kind(), format!("{base}\n{head}")))
            }
            (base, head) => Ok((base?, head?)),
        }
    }

    /// The same servers, this database on them.
    pub(crate) fn with_database(&self, database: &str) -> Self {
        Self { base: self.base.with_database(database), head: self.head.with_database(database) }
    }
}

/// A request that may go ahead.
#[derive(Debug)]
pub(crate) struct PreflightReport {
    pub(crate) pairs: Vec<TablePair>,
    pub(crate) target: FdwTarget,
    /// What an operator should know about the recovery as a whole.
    pub(crate) warnings: Vec<String>,
    /// Where the two restores ended, where the histories could be read and agree.
    pub(crate) ends: Option<(Lsn, Lsn)>,
    /// When the last transactions that base and head replayed were committed, where they know it.
    pub(crate) last_commits: (Option<Timestamp>, Option<Timestamp>),
    /// Whether they cover the gap.
    pub(crate) gap: GapProof,
    /// What tells the two restores from any others.
    pub(crate) restores: String,
    /// What holds the tables' rows on each server, by the tables' oids.
    head_storage: BTreeMap<u32, Vec<Storage>>,
    base_storage: BTreeMap<u32, Vec<Storage>>,
    /// Transaction ids that may stand for two transactions.
    pub(crate) reused_ids: Option<ReusedIds>,
    /// Why row versions may not be compared at all.
    no_row_versions: Option<String>,
}

impl PreflightReport {
    /// How many relations hold a table's rows on the server with more of them.
    pub(crate) fn partitions(&self, pair: &TablePair) -> usize {
        let of = |storage: &BTreeMap<u32, Vec<Storage>>, oid| storage.get(&oid).map_or(0, Vec::len);
        let on_base = pair.base.as_ref().map_or(0, |base| of(&self.base_storage, base.oid));
        of(&self.head_storage, pair.head.oid).max(on_base)
    }

    /// The relations in which the same place and xmin mean the same row, or why not.
    pub(crate) fn same_rows(&self, pair: &TablePair) -> Result<Vec<SameStorage>, String> {
        if let Some(reason) = &self.no_row_versions {
            return Err(reason.clone());
        }
        let base = pair.base.as_ref().and_then(|base| self.base_storage.get(&base.oid));
        let head = self.head_storage.get(&pair.head.oid);
        let written = pair.head.written + pair.base.as_ref().map_or(0, |base| base.written);
        if written > 0 {
            return Err("it was written to since a restore".to_owned());
        }
        catalog::same_rows(
            pair,
            head.map(Vec::as_slice).unwrap_or_default(),
            base.map(Vec::as_slice).unwrap_or_default(),
        )
    }
}

/// What stands against a request, and what should be known about it.
#[derive(Debug, Default)]
struct Findings {
    refusals: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn refuse(&mut self, sentence: impl Into<String>) {
        self.refusals.push(sentence.into());
    }

    fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }

    fn into_result(self) -> Result<Vec<String>> {
        if self.refusals.is_empty() {
            Ok(self.warnings)
        } else {
            Err(Error::refused(self.refusals.join("\n")))
        }
    }
}

/// What tells these two restores from any others, as [`PreflightReport::restores`] has it.
///
/// # Errors
/// Transient, if a server cannot be reached.
pub(crate) async fn restores_of(servers: &Servers) -> Result<String> {
    let (base, head) = tokio::try_join!(
        servers.base.connect("deltacompare preflight"),
        servers.head.connect("deltacompare preflight"),
    )?;
    let on_base = restores::facts(&base).await?;
    let on_head = restores::facts(&head).await?;
    tokio::join!(base.close(), head.close());
    Ok(format!("{} {}", on_base.restore, on_head.restore))
}

/// Why two restores that cover the gap prove nothing.
pub(crate) const WRITTEN_TO: &str = "a restore was written to";

/// Checks a request against both servers. Changes nothing on either.
///
/// # Errors
/// Refused, with every reason found, one a line; or transient, if a server cannot be reached.
pub(crate) async fn check(servers: &Servers, request: &Request) -> Result<PreflightReport> {
    let (mut base, mut head) = servers.connect_unpooled("deltacompare preflight").await?;
    let mut findings = Findings::default();
    for session in [&base, &head] {
        if let Some(sentence) = login_triggers(session).await? {
            findings.refuse(sentence);
        }
    }
    if !findings.refusals.is_empty() {
        // What they wrote at our own logins would be taken for an application's writes.
        return Err(Error::refused(findings.refusals.join("\n")));
    }
    let base_facts = restores::facts(&base).await?;
    let head_facts = restores::facts(&head).await?;
    restores::comparable(
        &base_facts,
        &head_facts,
        request.accepts(Accept::UnknownVersion),
        &mut findings,
    );
    if restores::same_server(&base, &head).await? {
        findings.refuse(
            "base and head are the same server: name the restore to the moment when the slot was \
             lost as base, and the one to the moment when it was back as head",
        );
    }
    if !findings.refusals.is_empty() {
        // Everything else would be asked of the wrong servers.
        return Err(Error::refused(findings.refusals.join("\n")));
    }
    restores::same_libraries(&base, &head, &mut findings).await?;
    let selection = Selection {
        publications: request.publications.clone(),
        tables: request.tables.clone(),
        exclude: request.exclude.clone(),
    };
    let mut blocked = false;
    let mut counts_lost = false;
    for (side, server, connection, facts) in [
        (Side::Base, &servers.base, &mut base, &base_facts),
        (Side::Head, &servers.head, &mut head, &head_facts),
    ] {
        isolation::quiet(side, server, connection, &mut findings).await?;
        if restores::counts_lost(connection).await? {
            counts_lost = true;
            findings.warn(format!(
                "{side} lost its counts of writes after its restore (a crash or pg_stat_reset()): \
                 whether it was written to before cannot be seen"
            ));
        }
        blocked |=
            locks::refuse_prepared(side, facts.version(), connection, &selection, &mut findings)
                .await?;
        blocked |=
            locks::refuse_locked(side, facts.version(), connection, &selection, &mut findings)
                .await?;
        // No other catalog query could be answered.
        blocked |= names::refuse_unreadable(side, connection, &mut findings).await?;
    }
    if blocked {
        // Everything else would wait for the locks.
        return Err(Error::refused(findings.refusals.join("\n")));
    }
    let Related { history, one_lineage, promoted } =
        relate(servers, request, &base_facts, &head_facts, &mut findings).await;
    counts_lost |= promoted;
    let mut gap = gap(request, &history, &mut findings);
    let ends = history.ok().map(|history| (history.base_end, history.head_end));
    refuse_empty_gap(request, ends, &gap, &base_facts, &head_facts, &mut findings);

    let mut pairs =
        coverage::pairs(&base, &head, head_facts.version(), &selection, one_lineage, &mut findings)
            .await?;
    let facts = (&base_facts, &head_facts);
    restores::unwritten(&pairs, facts, request.accepts(Accept::Written), &mut findings);
    let written = |pair: &TablePair| {
        pair.head.written > 0 || pair.base.as_ref().is_some_and(|base| base.written > 0)
    };
    for pair in &mut pairs {
        let warnings = pair.collation_warnings();
        pair.warnings.extend(warnings);
    }
    rights::check(&base, &head, &pairs, request.parallel, &mut findings).await?;

    let head_oids: Vec<u32> = pairs.iter().map(|pair| pair.head.oid).collect();
    let base_oids: Vec<u32> =
        pairs.iter().filter_map(|pair| pair.base.as_ref()).map(|base| base.oid).collect();
    let head_storage = catalog::storage(&head, &head_oids).await?;
    let base_storage = catalog::storage(&base, &base_oids).await?;
    coverage::partitions(&base, &head, &base_storage, &head_storage, &mut pairs, &mut findings)
        .await?;

    let oids = |storage: &BTreeMap<u32, Vec<Storage>>, tables: Vec<u32>| {
        let leaves = storage.values().flatten().map(|leaf| leaf.oid);
        tables.into_iter().chain(leaves).collect::<BTreeSet<u32>>()
    };
    let compared = |side, connection, facts: &restores::Facts, oids| alterations::Compared {
        side,
        connection,
        next_transaction: facts.next_transaction,
        oids,
    };
    let unaltered = alterations::since_recorded(
        request.recorded.as_ref(),
        compared(Side::Base, &mut base, &base_facts, oids(&base_storage, base_oids)),
        compared(Side::Head, &mut head, &head_facts, oids(&head_storage, head_oids)),
        &selection,
        request.accepts(Accept::Written),
        &mut findings,
    )
    .await?;
    gap = gap.of_restores(if pairs.iter().any(written) {
        Err(WRITTEN_TO.to_owned())
    } else if counts_lost && !unwritten_since_recorded(request, &base_facts, &head_facts) {
        Err("a restore lost its counts of writes, so writes to it cannot be seen".to_owned())
    } else if !(base_facts.track_counts && head_facts.track_counts) {
        Err("track_counts is off on a restore, so writes to it cannot be seen".to_owned())
    } else {
        unaltered
    });

    let target = FdwTarget::new(&servers.base, &request.fdw, base_facts.version());
    let target = match target {
        Ok(target) => Some(target),
        Err(error) => {
            findings.refuse(error.to_string());
            None
        }
    };
    tokio::join!(base.close(), head.close());
    let warnings = findings.into_result()?;
    let target = target.ok_or_else(|| Error::refused("head has no way to base"))?;
    let reused_ids =
        ReusedIds::between(base_facts.next_transaction as u64, head_facts.next_transaction as u64);
    let no_row_versions = if ends.is_none() {
        Some("that head continues base's history is not proved".to_owned())
    } else if let Some(unknown) = head_facts.unknown_version().or(base_facts.unknown_version()) {
        Some(format!("the server is {unknown}"))
    } else if let Err(reason) = &reused_ids {
        Some(reason.clone())
    } else if !(base_facts.track_counts && head_facts.track_counts) {
        Some("track_counts is off, so writes since the restores cannot be seen".to_owned())
    } else if counts_lost {
        Some("counts of writes since the restores were lost".to_owned())
    } else {
        None
    };
    let restores = format!("{} {}", base_facts.restore, head_facts.restore);
    let recorded = request.recorded.as_ref();
    let (base_end, head_end) = ends.unzip();
    let last_commits = (
        last_commit(&base_facts, base_end, recorded.map(|record| &record.base)),
        last_commit(&head_facts, head_end, recorded.map(|record| &record.head)),
    );
    Ok(PreflightReport {
        pairs,
        target,
        warnings,
        ends,
        last_commits,
        gap,
        restores,
        head_storage,
        base_storage,
        reused_ids: reused_ids.unwrap_or_default(),
        no_row_versions,
    })
}

/// Whether no transaction has written anything on either server since they were recorded: counts that
/// were lost since then are of nothing.
fn unwritten_since_recorded(
    request: &Request,
    base: &restores::Facts,
    head: &restores::Facts,
) -> bool {
    request.recorded.as_ref().is_some_and(|record| {
        [(&record.base, base), (&record.head, head)].into_iter().all(|(recorded, facts)| {
            recorded.next_transaction == Some(facts.next_transaction as u64)
        })
    })
}

/// Judges whether the restores cover the gap. One that they do not cover is refused, unless the
/// request accepts it.
fn gap(
    request: &Request,
    history: &Result<OneHistory, String>,
    findings: &mut Findings,
) -> GapProof {
    let (lost_at, new_slot) = (request.lost_at_lsn, request.new_slot_lsn);
    // Positions on two sides of a failover do not compare.
    let failed_over = matches!(history, Ok(history) if history.left_at < history.head_end);
    for (earlier, name) in [
        (lost_at.filter(|_| !failed_over), "--lost-at-lsn"),
        (request.new_slot_restart_lsn, "--new-slot-restart-lsn"),
    ] {
        if let Some((earlier, new_slot)) = earlier.zip(new_slot)
            && earlier > new_slot
        {
            findings.refuse(format!(
                "{name} {earlier} lies after --new-slot-lsn {new_slot}: exchange them if they were \
                 mixed up, or leave {name} out"
            ));
        }
    }
    if let (Some(restart), Ok(history)) = (request.new_slot_restart_lsn, history)
        && restart > history.head_end
        && !request.accepts(Accept::Hole)
    {
        findings.refuse(format!(
            "--new-slot-restart-lsn {restart} lies after the end of head, {}: head was restored to \
             a moment before the new slot, or the position is another one's; restore head to a \
             later moment or correct it; --accept hole recovers what is between the restores and \
             leaves the rest lost",
            history.head_end
        ));
    }
    if request.new_slot_restart_lsn.is_none() {
        findings.warn(
            "--new-slot-restart-lsn was not given, so the events carry no version: hold the new \
             slot's consumer until the recovered events are applied, or they turn newer rows back",
        );
    }
    let gap = GapProof::judge(lost_at, new_slot, history.as_ref().map_err(String::as_str));
    match &gap {
        GapProof::Violated { .. } if request.accepts(Accept::Hole) => {
            findings.warn(format!("the restores do not cover the gap: {gap}"));
        }
        GapProof::Violated { .. } => findings.refuse(format!(
            "the restores do not cover the gap: {gap}; --accept hole recovers what is between \
             them and leaves the rest lost"
        )),
        GapProof::NotProvable { .. } if lost_at.or(new_slot).is_some() => {
            findings.warn(format!("that the restores cover the gap is {gap}"));
        }
        GapProof::NotProvable { .. } | GapProof::Proven { .. } => {}
    }
    gap
}

/// Refuses two restores that end at one place, unless the request accepts it or the slots' positions
/// prove that nothing was missed: everything would be equal, and no change found. Where they ended is
/// taken from their histories, else from what they replayed last.
fn refuse_empty_gap(
    request: &Request,
    ends: Option<(Lsn, Lsn)>,
    gap: &GapProof,
    base: &restores::Facts,
    head: &restores::Facts,
    findings: &mut Findings,
) {
    let end = match (ends, &base.last_replayed, &head.last_replayed) {
        (Some((base, head)), ..) => (base == head).then(|| base.to_string()),
        (None, Some(base), Some(head)) => (base == head).then(|| base.clone()),
        _ => None,
    };
    let Some(end) = end.filter(|_| !matches!(gap, GapProof::Proven { .. })) else { return };
    if request.accepts(Accept::EmptyGap) {
        findings.warn(format!("both restores end at {end}: no change lies between them"));
    } else {
        findings.refuse(format!(
            "both restores end at {end}: no change lies between them, so none would be found; \
             restore base to the moment when the slot was lost and head to the one when it was \
             back, or say --accept empty-gap"
        ));
    }
}

/// When the last transaction that a restore replayed was committed, if the server or the record knows
/// it. What the server says counts only while it has not been restarted: then what it replayed last
/// is where its recovery ended.
fn last_commit(
    facts: &restores::Facts,
    end: Option<Lsn>,
    recorded: Option<&Recorded>,
) -> Option<Timestamp> {
    let end = end?.to_string();
    let of_server = facts.last_commit.filter(|_| facts.last_replayed.as_ref() == Some(&end));
    of_server
        .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
        .or_else(|| recorded?.last_commit)
}
