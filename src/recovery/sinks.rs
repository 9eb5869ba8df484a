//! The sinks of a recovery: refused before anything is changed, opened when it runs.

use std::path::PathBuf;
use std::sync::Arc;

use super::store::{DeltaRows, Store, StoredRecovery};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Request, SinkTarget};
use crate::sink::{DeltaTable, EventHub, EventHubAccess, FileContent, Held, Lines, Ndjson, Sink};

/// Sinks that cannot work are refused before anything is changed. Yields the files to be created.
///
/// # Errors
/// Refused; or transient, where a hub does not answer.
pub(super) async fn refuse_bad(request: &Request, access: &EventHubAccess) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let has_file = request.sinks.iter().any(|sink| matches!(sink, SinkTarget::Ndjson(_)));
    let tombstones = request.debezium.options().tombstones;
    if tombstones && has_file && !request.ndjson_keys {
        return Err(Error::refused(
            "a tombstone is a key without an event, and lines of an NDJSON file have no key: add \
             --ndjson-keys, or leave --debezium tombstones.on.delete=true out",
        ));
    }
    for sink in &request.sinks {
        match sink {
            SinkTarget::Ndjson(path) if Ndjson::check(path)? => files.push(path.clone()),
            SinkTarget::EventHub(_) if tombstones => {
                return Err(Error::refused(
                    "an event hub takes no tombstones: leave --debezium tombstones.on.delete=true out, \
                     or use another sink",
                ));
            }
            SinkTarget::EventHub(address) => {
                EventHub::check(access, address, &request.event_hub).await?;
            }
            SinkTarget::Ndjson(_) | SinkTarget::DeltaTable => {}
        }
    }
    Ok(files)
}

/// Creates the files, so that no other recovery that begins now takes them too.
pub(super) fn reserve_files(files: &[PathBuf]) -> Result<()> {
    files.iter().try_for_each(|path| Ndjson::reserve(path))
}

/// Whether the recovery's sinks still hold what counts as delivered. A file is compared with what it
/// held at the last checkpoint, the recovery's rows in the delta table are counted. An event hub
/// cannot be asked.
///
/// # Errors
/// [`ErrorKind::EventsLost`], with what is missing.
pub(super) async fn check_delivered(recovery: &StoredRecovery, store: &Store) -> Result<()> {
    let held = store.held(recovery.id).await?;
    for (place, sink) in recovery.request.sinks.iter().enumerate() {
        match sink {
            SinkTarget::Ndjson(path) => {
                if let Some(Held::File(content)) = held.get(&place) {
                    Ndjson::check_content(path, content)?;
                }
            }
            SinkTarget::DeltaTable => {
                let DeltaRows { found, delivered } = store.delta_rows(recovery.id).await?;
                if found < delivered {
                    return Err(Error::new(
                        ErrorKind::EventsLost,
                        format!(
                            "the delta table holds {found} of the {delivered} events that count as \
                             delivered: begin a new recovery, or, if you have the missing rows, \
                             put them back and go on with --resume (app: retry)"
                        ),
                    ));
                }
            }
            SinkTarget::EventHub(_) => {}
        }
    }
    Ok(())
}

/// Opens what the recovery's events go to.
///
/// # Errors
/// As [`check_delivered`]; or a sink cannot be opened.
pub(super) async fn open(
    recovery: &StoredRecovery,
    store: &Store,
    access: &EventHubAccess,
) -> Result<Vec<Arc<dyn Sink>>> {
    let lines = if recovery.request.ndjson_keys {
        Lines::Keyed { tombstones: recovery.request.debezium.options().tombstones }
    } else {
        Lines::Events
    };
    let mut held = store.held(recovery.id).await?;
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    for (place, sink) in recovery.request.sinks.iter().enumerate() {
        sinks.push(match sink {
            SinkTarget::Ndjson(path) => {
                let known = match held.remove(&place) {
                    Some(Held::File(content)) => content,
                    Some(Held::Unknown) | None => FileContent::default(),
                };
                Arc::new(Ndjson::open(path, lines, known)?)
            }
            SinkTarget::DeltaTable => {
                Arc::new(DeltaTable::open(store.pool().clone(), recovery.id).await?)
            }
            SinkTarget::EventHub(address) => {
                let (hub, grown) = EventHub::open(
                    access,
                    address,
                    &recovery.request.event_hub,
                    recovery.id,
                    recovery.created_at,
                    store.pool().clone(),
                    async |found| store.hub(recovery.id, &address.to_string(), found).await,
                )
                .await?;
                if let Some(grown) = grown {
                    store.warn(recovery.id, &grown).await?;
                }
                Arc::new(hub)
            }
        });
    }
    // After the delta table was opened: a truncation between the two is found by one or the other.
    check_delivered(recovery, store).await?;
    Ok(sinks)
}
