//! A file with one event a line.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::Sink;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;

/// Appends events to a file; durable after `fdatasync`.
///
/// A crash can leave half a line at the end. [`Ndjson::open`] cuts it off: its event was never
/// acknowledged and will be written again.
///
/// Several processes may write to one file, as when a worker goes on that was thought dead: each
/// appends whole lines only, and holds the file's lock meanwhile.
pub(crate) struct Ndjson {
    lines: Arc<Mutex<Lines>>,
    path: PathBuf,
}

/// Lines on their way to the file.
struct Lines {
    file: File,
    /// Not in the file yet, and nobody was told that they are.
    pending: Vec<u8>,
}

/// Lines are collected up to this size before the file is written.
const PENDING_BYTES: usize = 1 << 20;

impl Lines {
    fn append(&mut self) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.file.lock()?;
        let written = self.file.metadata().and_then(|before| {
            self.file.write_all(&self.pending).inspect_err(|_| {
                // What comes behind half a line would be lost with it.
                let _ = self.file.set_len(before.len());
            })
        });
        self.file.unlock()?;
        written?;
        self.pending.clear();
        Ok(())
    }
}

impl Ndjson {
    /// Whether a new recovery may write this file. Creates nothing.
    ///
    /// # Errors
    /// Refused if the file has something in it, or its folder is not there.
    pub(crate) fn check(path: &Path) -> Result<()> {
        if !folder(path).is_dir() {
            return Err(Error::refused(format!(
                "the folder of {} does not exist: create it, or name another file with --sink \
                 ndjson:<file>",
                path.display()
            )));
        }
        match std::fs::metadata(path) {
            Ok(file) if file.is_file() && file.len() == 0 => Ok(()),
            Ok(_) => Err(Error::refused(format!(
                "{} exists and is not an empty file: name another one with --sink ndjson:<file>, \
                 or go on with --resume <recovery id>",
                path.display()
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::refused(format!(
                "{} cannot be looked at: {error}; name another file with --sink ndjson:<file>",
                path.display()
            ))
            .because(error)),
        }
    }

    /// Creates the file, or opens it to go on behind its last whole line.
    ///
    /// # Errors
    /// Refused if that is not possible.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let refused = |what: &str, error: std::io::Error| {
            Error::refused(format!(
                "{} cannot be {what}: {error}; mend that and go on with --resume",
                path.display()
            ))
            .because(error)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| refused("opened", error))?;
        // Nobody is in the middle of a line while this process has the lock.
        file.lock().map_err(|error| refused("locked", error))?;
        let length = file.metadata().map_err(|error| refused("read", error))?.len();
        let whole = end_of_last_line(&mut file, length).map_err(|e| refused("read", e))?;
        if whole < length {
            file.set_len(whole).map_err(|error| refused("cut to whole lines", error))?;
        }
        file.unlock().map_err(|error| refused("unlocked", error))?;
        // A new file is durable only with its folder's entry.
        File::open(folder(path))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| refused("made durable", error))?;
        let lines = Arc::new(Mutex::new(Lines { file, pending: Vec::new() }));
        Ok(Self { lines, path: path.to_owned() })
    }

    async fn with_lines(
        &self,
        work: impl FnOnce(&mut Lines) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let lines = Arc::clone(&self.lines);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut lines.lock().unwrap_or_else(PoisonError::into_inner))
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
        let mut new = Vec::with_capacity(events.iter().map(|event| event.body.len() + 1).sum());
        for event in events {
            new.extend_from_slice(&event.body);
            new.push(b'\n');
        }
        Box::pin(self.with_lines(move |lines| {
            lines.pending.append(&mut new);
            if lines.pending.len() >= PENDING_BYTES { lines.append() } else { Ok(()) }
        }))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.with_lines(|lines| {
            lines.append()?;
            lines.file.sync_data()
        }))
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The position behind the last newline.
fn end_of_last_line(file: &mut File, length: u64) -> std::io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
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
        for (content, whole) in [("", ""), ("{\"a", ""), ("1\n2\n", "1\n2\n"), ("1\n2", "1\n")] {
            let path = folder.path().join("events");
            std::fs::write(&path, content).unwrap();
            drop(Ndjson::open(&path).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        }
        let path = folder.path().join("long");
        std::fs::write(&path, format!("1\n{}", "x".repeat(200_000))).unwrap();
        drop(Ndjson::open(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
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
