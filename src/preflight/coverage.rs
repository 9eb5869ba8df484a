//! Which tables are compared with which: what head's and base's publications cover, and what became
//! of it in the gap.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use crate::catalog::{
    self, Deviation, PublishedTable, RelationKind, Selection, Sides, Storage, TablePair,
};
use crate::error::{Error, Result};
use crate::model::TableName;
use crate::postgres::{self, Session, Side};

/// The selected tables, each with base's. What is not compared is told once for all of a kind,
/// however many tables it meets.
///
/// # Errors
/// Refused: an unknown publication or table, or nothing selected.
pub(super) async fn pairs(
    base: &Session,
    head: &Session,
    server_version: u32,
    selection: &Selection,
    one_lineage: bool,
    findings: &mut Findings,
) -> Result<Vec<TablePair>> {
    let catalog::Selected { tables: published, raised, rowless } =
        catalog::select(head, server_version, selection).await?;
    for (root, partitions) in raised {
        findings.warn(format!(
            "sent as its root: {} published by itself and as a part of {root}: the rows are sent \
             as {root}'s, as the stream sends them",
            match &partitions[..] {
                [partition] => format!("{partition} is"),
                partitions => format!("{} are each", catalog::names(partitions)),
            }
        ));
    }
    if !rowless.is_empty() {
        findings.warn(format!(
            "no rows published: no publication publishes inserts, updates or deletes of {}: the \
             stream sends no rows, and no events are sent",
            catalog::names(&rowless)
        ));
    }
    let published_on_base =
        published_on_base(base, server_version, selection, &published, findings).await?;
    let names: Vec<TableName> = published.keys().cloned().collect();
    let on_head = catalog::relations(head, &names).await?;
    let mut on_base = catalog::relations(base, &names).await?;
    if one_lineage {
        let unknown = on_head.values().filter(|head| !on_base.contains_key(&head.name));
        let unknown: Vec<u32> = unknown.map(|relation| relation.oid).collect();
        let renamed: Vec<TableName> =
            catalog::names_of(base, unknown).await?.into_values().collect();
        on_base.extend(catalog::relations(base, &renamed).await?);
    }
    let regrouped = regrouped(base, &published, published_on_base.as_ref()).await?;
    let mut sides = Sides {
        published,
        published_on_base,
        head: on_head,
        base: on_base,
        regrouped,
        undecided: BTreeSet::new(),
        one_lineage,
    };
    let mut pairs = sides.pair();
    sides.undecided = undecided(base, &pairs).await?;
    if !sides.undecided.is_empty() {
        pairs = sides.pair();
    }
    refuse_bad_filters(base, head, &pairs, findings).await?;
    if selection.tables.is_empty() {
        not_compared(base, head, selection, &pairs, &sides, findings).await?;
    }
    Ok(pairs)
}

/// What base's publications cover; `None` if base has none of those that are asked for, and head's
/// are taken for both.
async fn published_on_base(
    base: &Session,
    server_version: u32,
    selection: &Selection,
    published: &BTreeMap<TableName, PublishedTable>,
    findings: &mut Findings,
) -> Result<Option<BTreeMap<TableName, PublishedTable>>> {
    if published.values().all(|table| table.unpublished) {
        return Ok(None);
    }
    let known = catalog::publications(base).await?;
    let wanted: Vec<String> = match &selection.publications[..] {
        [] => known,
        wanted => wanted.iter().filter(|name| known.contains(name)).cloned().collect(),
    };
    if wanted.is_empty() {
        findings.warn(
            "publication created in the gap: base does not have it, so what it covers on head is \
             taken for both sides",
        );
        return Ok(None);
    }
    Ok(Some(catalog::published(base, server_version, &wanted).await?.tables))
}

/// Partitions of base that only one side publishes by itself, the other side as a part of its root:
/// `publish_via_partition_root` was changed, or another publication has come.
async fn regrouped(
    base: &Session,
    published: &BTreeMap<TableName, PublishedTable>,
    published_on_base: Option<&BTreeMap<TableName, PublishedTable>>,
) -> Result<BTreeMap<TableName, TableName>> {
    let Some(on_base) = published_on_base else { return Ok(BTreeMap::new()) };
    let names = published.keys().chain(on_base.keys()).collect();
    let mut partitions = catalog::partitions_among(base, &names).await?;
    partitions.retain(|leaf, root| {
        let became_root = on_base.contains_key(leaf) && published.contains_key(root);
        let was_root = on_base.contains_key(root) && published.contains_key(leaf);
        became_root || was_root
    });
    Ok(partitions)
}

/// Refuses tables with a row filter that cannot be asked for. pgoutput keeps a filter as it was
/// parsed once; its text may mean nothing any more, or two things, where a cast or an operator came.
async fn refuse_bad_filters(
    base: &Session,
    head: &Session,
    pairs: &[TablePair],
    findings: &mut Findings,
) -> Result<()> {
    for pair in pairs {
        let on_base = pair.base.as_ref().zip(pair.base_filter.as_ref());
        let on_head = pair.published.filter.as_ref().map(|filter| (&pair.head, filter));
        for (side, session, asked) in [(Side::Base, base, on_base), (Side::Head, head, on_head)] {
            let Some((relation, filter)) = asked else { continue };
            if let Some((_, behind)) = filter.split_once(catalog::UNREADABLE_FILTER) {
                let publication = behind.split(") or (").next().unwrap_or(behind);
                let (table, publication) = (&pair.table.name, publication.trim_end_matches(')'));
                findings.refuse(format!(
                    "the row filter of {table} in publication {publication} on {side} has text that \
                     is no UTF-8, though all clients here speak UTF-8: leave the table out with \
                     --exclude {table}, or write the filter without that text on production"
                ));
                break;
            }
            if let Some(error) = cannot_filter(session, relation, filter).await? {
                let table = &pair.table.name;
                findings.refuse(format!(
                    "the row filter of {table} cannot be asked for on {side}: {error}; on these \
                     copies, drop what makes it ambiguous (a cast or an operator that came after \
                     the publication), record them again, or leave the table out with --exclude \
                     {table}"
                ));
                break;
            }
        }
    }
    Ok(())
}

/// Why a server cannot decide a row filter: a syntax error or access rule violation, or a data
/// exception. Missing rights are looked for elsewhere.
async fn cannot_filter(
    session: &Session,
    relation: &catalog::Relation,
    filter: &str,
) -> Result<Option<Error>> {
    let question = format!(
        "explain select from {} as r where {filter}",
        postgres::QualifiedName::from(&relation.name)
    );
    match session.batch_execute(&question).await {
        Ok(()) => Ok(None),
        Err(error) => match error.sqlstate() {
            Some("42501") => Ok(None),
            Some(code) if code.starts_with("42") || code.starts_with("22") => Ok(Some(error)),
            _ => Err(error),
        },
    }
}

/// Tables with a row filter that base cannot decide. One that base's publications have it can; one
/// that is head's alone may ask for columns or types that came in the gap.
async fn undecided(base: &Session, pairs: &[TablePair]) -> Result<BTreeSet<TableName>> {
    let mut undecided = BTreeSet::new();
    for pair in pairs {
        let (Some(relation), Some(filter)) = (&pair.base, &pair.base_filter) else { continue };
        if cannot_filter(base, relation, filter).await?.is_some() {
            undecided.insert(pair.table.name.clone());
        }
    }
    Ok(undecided)
}

/// Tables that base's publications cover and head's do not.
async fn not_compared(
    base: &Session,
    head: &Session,
    selection: &Selection,
    pairs: &[TablePair],
    sides: &Sides,
    findings: &mut Findings,
) -> Result<()> {
    let Some(published_on_base) = &sides.published_on_base else { return Ok(()) };
    let mut compared: BTreeSet<&TableName> =
        pairs.iter().filter_map(|pair| Some(&pair.base.as_ref()?.name)).collect();
    // Those under another name than on base are told of with the tables that have the rows now.
    compared.extend(&sides.undecided);
    compared.extend(sides.regrouped.iter().flat_map(|(leaf, root)| [leaf, root]));
    let left: Vec<TableName> = published_on_base
        .keys()
        .filter(|name| !compared.contains(name) && !selection.exclude.contains(name))
        .cloned()
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    let on_base = catalog::oids(base, &left).await?;
    let by_oid = catalog::names_of(head, on_base.values().copied()).await?;
    let by_name = catalog::oids(head, &left).await?;
    let mut dropped = Vec::new();
    let mut unpublished = Vec::new();
    for (name, oid) in on_base {
        match by_oid.get(&oid).or_else(|| by_name.get_key_value(&name).map(|(name, _)| name)) {
            Some(now) if selection.exclude.contains(now) => {}
            Some(_) => unpublished.push(name),
            None => dropped.push(name),
        }
    }
    let tables = |tables: &[TableName]| match tables.len() {
        1 => "1 table that was published on base".to_owned(),
        many => format!("{many} tables that were published on base"),
    };
    if !dropped.is_empty() {
        findings.warn(format!(
            "table dropped: {}: no events are sent for {}",
            tables(&dropped),
            catalog::names(&dropped)
        ));
    }
    if !unpublished.is_empty() {
        findings.warn(format!(
            "no longer published: {}, taken out of the publication, made unlogged, or attached to \
             a table that is published in its stead: no events are sent for {}",
            tables(&unpublished),
            catalog::names(&unpublished)
        ));
    }
    Ok(())
}

/// Partitions that came or went under a published root, on the pairs that they concern; partitions
/// that no slot reads are refused.
pub(super) async fn partitions(
    base: &Session,
    head: &Session,
    base_storage: &BTreeMap<u32, Vec<Storage>>,
    head_storage: &BTreeMap<u32, Vec<Storage>>,
    pairs: &mut [TablePair],
    findings: &mut Findings,
) -> Result<()> {
    for pair in pairs.iter_mut() {
        let base = pair.base.as_ref();
        let leaves = base.and_then(|base| base_storage.get(&base.oid)).into_iter().flatten();
        let mut names = leaves.map(|leaf| &leaf.name).chain(base.map(|base| &base.name));
        pair.base_name_breaks = names.any(|name| name.name.contains(['\n', '\r']));
    }
    for (side, storage) in [("base", base_storage), ("head", head_storage)] {
        let foreign = storage.values().flatten().filter(|leaf| leaf.foreign);
        let foreign: Vec<TableName> = foreign.map(|leaf| leaf.name.clone()).collect();
        if !foreign.is_empty() {
            findings.refuse(format!(
                "partitions on {side} are foreign tables, whose rows no slot delivers: {}; detach \
                 them on this copy, or leave their root out with --exclude",
                catalog::names(&foreign)
            ));
        }
    }
    tell_old_rows(base, head, pairs).await?;
    let leaves = |storage: &BTreeMap<u32, Vec<Storage>>, root: u32| -> BTreeMap<u32, TableName> {
        let leaves = storage.get(&root).into_iter().flatten();
        leaves.map(|leaf| (leaf.oid, leaf.name.clone())).collect()
    };
    let mut came = BTreeMap::new();
    let mut went = BTreeMap::new();
    for (at, pair) in pairs.iter().enumerate() {
        let Some(root) = &pair.base else { continue };
        if pair.head.kind != RelationKind::Partitioned || root.oid != pair.head.oid {
            continue;
        }
        let (on_base, on_head) = (leaves(base_storage, root.oid), leaves(head_storage, root.oid));
        let only = |some: &BTreeMap<u32, TableName>, others: &BTreeMap<u32, TableName>| {
            let only = some.iter().filter(|(oid, _)| !others.contains_key(oid));
            only.map(|(&oid, name)| (oid, (at, name.clone()))).collect::<Vec<_>>()
        };
        came.extend(only(&on_head, &on_base));
        went.extend(only(&on_base, &on_head));
    }
    // One that base does not have at all was created in the gap, and its rows streamed.
    let were_tables = catalog::names_of(base, came.keys().copied()).await?;
    let are_tables = catalog::names_of(head, went.keys().copied()).await?;
    let mut found = BTreeMap::<usize, [Vec<TableName>; 3]>::new();
    for (oid, (at, name)) in came {
        if were_tables.contains_key(&oid) {
            found.entry(at).or_default()[0].push(name);
        }
    }
    for (oid, (at, name)) in went {
        let kind = if are_tables.contains_key(&oid) { 1 } else { 2 };
        found.entry(at).or_default()[kind].push(name);
    }
    for (at, [attached, detached, dropped]) in found {
        let deviations = [
            (!attached.is_empty()).then_some(Deviation::PartitionsAttached(attached)),
            (!detached.is_empty()).then_some(Deviation::PartitionsDetached(detached)),
            (!dropped.is_empty()).then_some(Deviation::PartitionsDropped(dropped)),
        ];
        pairs[at].warnings.extend(deviations.iter().flatten().map(Deviation::to_string));
    }
    Ok(())
}

/// Has old rows of partitioned tables told as their partitions say.
async fn tell_old_rows(base: &Session, head: &Session, pairs: &mut [TablePair]) -> Result<()> {
    let partitioned = |relation: &&catalog::Relation| relation.kind == RelationKind::Partitioned;
    let oids = |relations: Vec<&catalog::Relation>| -> Vec<u32> {
        relations.iter().map(|relation| relation.oid).collect()
    };
    let roots = pairs.iter().filter_map(|pair| pair.base.as_ref()).filter(partitioned);
    let on_base = catalog::partitions(base, &oids(roots.collect())).await?;
    let roots = pairs.iter().map(|pair| &pair.head).filter(partitioned);
    let on_head = catalog::partitions(head, &oids(roots.collect())).await?;
    for pair in pairs {
        let Some(relation) = pair.base.as_ref().filter(partitioned) else { continue };
        let partitions_on_base = on_base.get(&relation.oid).cloned().unwrap_or_default();
        // An oid means the same on both only in one table.
        let same = relation.oid == pair.head.oid;
        let partitions_on_head =
            on_head.get(&pair.head.oid).filter(|_| same).cloned().unwrap_or_default();
        pair.tell_old_rows(&partitions_on_base, &partitions_on_head);
    }
    Ok(())
}
