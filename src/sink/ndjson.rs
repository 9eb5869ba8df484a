//! A file with one event a line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::Sink;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Op};
use crate::telemetry::metrics::{self, SinkKind};

/// Appends events to a file; durable after `fdatasync`. Several processes may append to one file:
/// each write holds the file's lock (and the mutex, for tasks of one process) and is whole lines.
///
/// A crash can leave half a line at the end. The next write cuts it off: its event was never
/// acknowledged and will be written again.
pub(crate) struct Ndjson {
    file: Arc<Mutex<Opened>>,
    path: PathBuf,
    lines: Lines,
    /// Events written since the last flush.
    written: AtomicU64,
}

/// The file, until something went wrong with it. The system tells of pages that could not be written
/// back once only, to whoever syncs next: nobody who comes later may take the file for durable.
struct Opened {
    file: File,
    failed: bool,
}

impl Opened {
    fn with_file(
        &mut self,
        work: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        if self.failed {
            return Err(std::io::Error::other("an earlier write failed"));
        }
        let outcome = work(&self.file);
        self.failed = outcome.is_err();
        outcome
    }
}

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// The event.
    Events,
    /// `{"key":…,"value":…}`: the message key (null without one) and the event.
    Keyed {
        /// After a delete a line with its key and the value null.
        tombstones: bool,
    },
}

impl Lines {
    fn append(self, event: &Event, out: &mut Vec<u8>) {
        let Self::Keyed { tombstones } = self else {
            out.extend_from_slice(&event.body);
            out.push(b'\n');
            return;
        };
        let mut line = |key: &[u8], value: &[u8]| {
            for part in [b"{\"key\":", key, b",\"value\":", value, b"}\n"] {
                out.extend_from_slice(part);
            }
        };
        line(event.key.as_deref().unwrap_or(b"null"), &event.body);
        if let Some(key) = event.key.as_deref().filter(|_| tombstones && event.op == Op::Delete) {
            line(key, b"null");
        }
    }
}

impl Ndjson {
    /// Whether a new recovery may write this file, which must be new or empty. Creates nothing;
    /// says whether it is to be created.
    ///
    /// # Errors
    /// Refused if the file has something in it, or its folder is not there.
    pub(crate) fn check(path: &Path) -> Result<bool> {
        if !folder(path).is_dir() {
            return Err(Error::refused(format!(
                "the folder of {} does not exist: create it, or name another file with --sink \
                 ndjson:<file>",
                path.display()
            )));
        }
        match std::fs::metadata(path) {
            Ok(file) if file.is_file() && file.len() == 0 => Ok(false),
            Ok(_) => Err(Error::refused(format!(
                "{} exists and is not an empty file: name another one with --sink ndjson:<file>, \
                 or go on with --resume <recovery id>",
                path.display()
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(Error::refused(format!(
                "{} cannot be looked at: {error}; name another file with --sink ndjson:<file>",
                path.display()
            ))
            .because(error)),
        }
    }

    /// Creates the file. Of two recoveries that found it missing, one succeeds.
    ///
    /// # Errors
    /// Refused if it is there by now, or cannot be created.
    pub(crate) fn reserve(path: &Path) -> Result<()> {
        File::create_new(path).map(drop).map_err(|error| {
            Error::refused(format!(
                "{} cannot be created: {error}; name another file with --sink ndjson:<file>",
                path.display()
            ))
            .because(error)
        })
    }

    /// Creates the file, or opens it to go on behind its last whole line.
    ///
    /// # Errors
    /// Refused if that is not possible.
    pub(crate) fn open(path: &Path, lines: Lines) -> Result<Self> {
        let refused = |error: std::io::Error| {
            Error::refused(format!(
                "{} cannot be opened: {error}; mend that and go on with --resume",
                path.display()
            ))
            .because(error)
        };
        let file =
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(refused)?;
        // A new file is durable only with its folder's entry.
        File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(refused)?;
        Ok(Self {
            file: Arc::new(Mutex::new(Opened { file, failed: false })),
            path: path.to_owned(),
            lines,
            written: AtomicU64::new(0),
        })
    }

    async fn with_file(
        &self,
        work: impl FnOnce(&File) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || {
            file.lock().unwrap_or_else(PoisonError::into_inner).with_file(work)
        });
        let outcome = done.await.map_err(std::io::Error::other).and_then(|outcome| outcome);
        outcome.map_err(|error| {
            Error::new(
                ErrorKind::Recovery,
                format!(
                    "{} cannot be written: {error}; make room or mend the folder, then go on with \
                     --resume",
                    self.path.display()
                ),
            )
            .because(error)
        })
    }
}

impl Sink for Ndjson {
    fn write<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<()>> {
        let mut lines = Vec::with_capacity(events.iter().map(|event| event.body.len() + 1).sum());
        for event in events {
            self.lines.append(event, &mut lines);
        }
        let writing = self.with_file(move |file| {
            file.lock()?;
            let written = cut_half_line(file).and_then(|()| {
                let mut file = file;
                file.write_all(&lines)
            });
            file.unlock()?;
            written
        });
        Box::pin(async move {
            writing.await?;
            self.written.fetch_add(events.len() as u64, Ordering::Relaxed);
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            // What is written from now on may be in time for this flush or not.
            let written = self.written.swap(0, Ordering::Relaxed);
            self.with_file(File::sync_data).await?;
            metrics::acknowledged(SinkKind::Ndjson, written);
            Ok(())
        })
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Cuts off what stands behind the last newline.
fn cut_half_line(file: &File) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last == [b'\n'] { Ok(()) } else { file.set_len(end_of_last_line(file, length)?) }
}

/// The position behind the last newline.
fn end_of_last_line(file: &File, length: u64) -> std::io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - start) as usize];
        file.read_exact_at(&mut block, start)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let long = "x".repeat(200_000);
        for (content, whole) in [
            ("", ""),
            ("{\"a", ""),
            ("1\n2\n", "1\n2\n"),
            ("1\n2", "1\n"),
            (&format!("1\n{long}"), "1\n"),
        ] {
            std::fs::write(&path, content).unwrap();
            let ndjson = Ndjson::open(&path, Lines::Events).unwrap();
            cut_half_line(&ndjson.file.lock().unwrap().file).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        }
    }

    #[tokio::test]
    async fn after_an_error_nothing_counts_as_durable() {
        let folder = tempfile::tempdir().unwrap();
        let ndjson = Ndjson::open(&folder.path().join("events"), Lines::Events).unwrap();
        ndjson.flush().await.unwrap();
        let lost = std::io::Error::other("pages were lost");
        ndjson.with_file(|_| Err(lost)).await.unwrap_err();
        let error = ndjson.flush().await.unwrap_err();
        assert!(error.to_string().contains("an earlier write failed"), "{error}");
    }

    #[test]
    fn what_another_recovery_wrote_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        std::fs::write(&path, "1\n").unwrap();
        let error = Ndjson::check(&path).err().unwrap();
        assert!(error.to_string().contains("--resume"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    }
}
