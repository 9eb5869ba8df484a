//! The sinks of a recovery: refused before anything is changed, opened when it runs.

use std::path::Path;
use std::sync::Arc;

use super::request::{Request, SinkTarget};
use super::store::{Store, StoredRecovery};
use crate::error::{Error, Result};
use crate::sink::{DeltaTable, EventHub, EventHubAccess, Lines, Ndjson, Sink};

/// Sinks that cannot work are refused before anything is changed. Yields the files to be created.
///
/// # Errors
/// Refused; or transient, where a hub does not answer.
pub(super) async fn refuse_bad<'a>(
    request: &'a Request,
    access: &EventHubAccess,
) -> Result<Vec<&'a Path>> {
    let mut files = Vec::new();
    let has_file = request.sinks.iter().any(|sink| matches!(sink, SinkTarget::Ndjson(_)));
    if request.tombstones && has_file && !request.ndjson_keys {
        return Err(Error::refused(
            "a tombstone is a key without an event, and lines of an NDJSON file have no key: add \
             --ndjson-keys, or leave --tombstones out",
        ));
    }
    for sink in &request.sinks {
        match sink {
            SinkTarget::Ndjson(path) if Ndjson::check(path)? => files.push(path.as_path()),
            SinkTarget::EventHub(_) if request.tombstones => {
                return Err(Error::refused(
                    "an event hub takes no tombstones: leave --tombstones out, or use another sink",
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
pub(super) fn reserve_files(files: &[&Path]) -> Result<()> {
    files.iter().try_for_each(|path| Ndjson::reserve(path))
}

/// Opens what the recovery's events go to.
pub(super) async fn open(
    recovery: &StoredRecovery,
    store: &Store,
    access: &EventHubAccess,
) -> Result<Vec<Arc<dyn Sink>>> {
    let lines = if recovery.request.ndjson_keys {
        Lines::Keyed { tombstones: recovery.request.tombstones }
    } else {
        Lines::Events
    };
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    for sink in &recovery.request.sinks {
        sinks.push(match sink {
            SinkTarget::Ndjson(path) => Arc::new(Ndjson::open(path, lines)?),
            SinkTarget::DeltaTable => Arc::new(DeltaTable::new(store.pool().clone(), recovery.id)),
            SinkTarget::EventHub(address) => Arc::new(
                EventHub::open(
                    access,
                    address,
                    &recovery.request.event_hub,
                    recovery.id,
                    recovery.created_at,
                    store.pool().clone(),
                )
                .await?,
            ),
        });
    }
    Ok(sinks)
}
