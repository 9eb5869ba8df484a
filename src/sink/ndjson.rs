//! A file with one event a line.

mod content;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub(crate) use content::FileContent;

use content::{cut_half_line, end_of_whole_lines};

use super::{Held, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::model::Op;
use crate::telemetry::metrics::{self, SinkKind};

/// Appends events to a file; durable after `fdatasync`. Several processes may append to one file:
/// each write holds the file's lock (and the mutex, for tasks of one process) and is whole lines.
///
/// A crash can leave half a line at the end. The next write cuts it off: its event was never
/// acknowledged and will be written again.
///
/// Before each write and at each flush the file is compared with what it was known to hold, and at
/// each flush its path must still lead to it.
pub(crate) struct Ndjson {
    file: Arc<Mutex<Opened>>,
    path: PathBuf,
    lines: Lines,
    /// Events written since the last flush.
    written: AtomicU64,
}

/// Why a file cannot be gone on with.
#[derive(Debug)]
enum Broken {
    Io(std::io::Error),
    /// What it was known to hold is not there.
    Lost(&'static str),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Broken {
    fn at(self, path: &Path) -> Error {
        match self {
            Self::Io(error) => Error::new(
                ErrorKind::Recovery,
                format!(
                    "{} cannot be written: {error}; make room or mend the folder, then go on with \
                     --resume",
                    path.display()
                ),
            )
            .because(error),
            Self::Lost(what) => Error::new(
                ErrorKind::EventsLost,
                format!(
                    "{} {what}, and events that count as delivered were in it: put the file back \
                     and go on with --resume, or begin a new recovery if it is lost",
                    path.display()
                ),
            ),
        }
    }
}

/// The file, until something went wrong with it. The system tells of pages that could not be written
/// back once only, to whoever syncs next: nobody who comes later may take the file for durable.
struct Opened {
    file: File,
    /// What it holds at least.
    known: FileContent,
    broken: Option<Broken>,
}

impl Opened {
    fn with_file<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Broken>,
    ) -> Result<T, Broken> {
        match self.broken {
            Some(Broken::Lost(what)) => return Err(Broken::Lost(what)),
            Some(Broken::Io(_)) => {
                return Err(std::io::Error::other("an earlier write failed").into());
            }
            None => {}
        }
        let done = work(self);
        self.broken = match &done {
            Ok(_) => None,
            Err(Broken::Lost(what)) => Some(Broken::Lost(what)),
            Err(Broken::Io(error)) => Some(Broken::Io(error.kind().into())),
        };
        done
    }

    /// Does something while no other process writes. What the file was known to hold is in it.
    fn locked<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Broken>,
    ) -> Result<T, Broken> {
        self.file.lock()?;
        let done = self.known.check(&self.file).and_then(|()| work(self));
        self.file.unlock()?;
        done
    }

    /// Appends whole lines, given in pieces.
    fn append(&mut self, lines: &[Bytes]) -> Result<(), Broken> {
        self.locked(|opened| {
            cut_half_line(&opened.file)?;
            lines.iter().try_for_each(|piece| (&opened.file).write_all(piece))?;
            opened.known = FileContent::before(&opened.file, opened.file.metadata()?.len())?;
            Ok(())
        })
    }

    /// Makes what was written before durable, and says what the file then holds.
    fn sync(&mut self, path: &Path) -> Result<FileContent, Broken> {
        // Looked at first: what others append meanwhile is theirs to make durable.
        let held = self.locked(|opened| {
            let end = end_of_whole_lines(&opened.file)?;
            Ok(FileContent::before(&opened.file, end)?)
        })?;
        self.file.sync_data()?;
        let own = self.file.metadata()?;
        match std::fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => {}
            Ok(_) => return Err(Broken::Lost("is another file now")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Broken::Lost("is gone"));
            }
            Err(error) => return Err(error.into()),
        }
        self.known = held.clone();
        Ok(held)
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
    fn append(self, event: &Event, out: &mut Pieces) {
        let Self::Keyed { tombstones } = self else {
            out.add(&event.body);
            out.small.push(b'\n');
            return;
        };
        let mut line = |key: &[u8], value: &Bytes| {
            out.small.extend_from_slice(b"{\"key\":");
            out.small.extend_from_slice(key);
            out.small.extend_from_slice(b",\"value\":");
            out.add(value);
            out.small.extend_from_slice(b"}\n");
        };
        line(event.key.as_deref().unwrap_or(b"null"), &event.body);
        if let Some(key) = event.key.as_deref().filter(|_| tombstones && event.op == Op::Delete) {
            line(key, &Bytes::from_static(b"null"));
        }
    }
}

/// Lines to be written. Large events are written from where they are, all else is put together, so
/// that a write of small events is one call of the system.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    small: Vec<u8>,
}

/// Events from this size on are not copied.
const LARGE_EVENT_BYTES: usize = 1 << 20;

impl Pieces {
    fn add(&mut self, bytes: &Bytes) {
        if bytes.len() < LARGE_EVENT_BYTES {
            self.small.extend_from_slice(bytes);
        } else {
            self.done.push(std::mem::take(&mut self.small).into());
            self.done.push(bytes.clone());
        }
    }

    fn close(mut self) -> Vec<Bytes> {
        self.done.push(self.small.into());
        self.done
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

    /// Whether the file still has what it was known to hold.
    ///
    /// # Errors
    /// [`ErrorKind::EventsLost`]
    pub(crate) fn check_content(path: &Path, known: &FileContent) -> Result<()> {
        let checked = match File::open(path) {
            Ok(file) => known.check(&file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Broken::Lost("is gone"))
            }
            Err(error) => Err(error.into()),
        };
        checked.map_err(|broken| broken.at(path))
    }

    /// Opens the file to go on behind its last whole line, and creates it if nothing is known to be
    /// in it.
    ///
    /// # Errors
    /// Refused if that is not possible; [`ErrorKind::EventsLost`] if what is known to be in it is
    /// not.
    pub(crate) fn open(path: &Path, lines: Lines, known: FileContent) -> Result<Self> {
        let refused = |error: std::io::Error| {
            Error::refused(format!(
                "{} cannot be opened: {error}; mend that and go on with --resume",
                path.display()
            ))
            .because(error)
        };
        if known.length > 0 {
            Self::check_content(path, &known)?;
        }
        let create = known.length == 0;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(create)
            .open(path)
            .map_err(refused)?;
        // A new file is durable only with its folder's entry.
        File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(refused)?;
        Ok(Self {
            file: Arc::new(Mutex::new(Opened { file, known, broken: None })),
            path: path.to_owned(),
            lines,
            written: AtomicU64::new(0),
        })
    }

    async fn with_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Opened) -> Result<T, Broken> + Send + 'static,
    ) -> Result<T> {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || {
            file.lock().unwrap_or_else(PoisonError::into_inner).with_file(work)
        });
        let outcome = done.await.map_err(std::io::Error::other);
        outcome.map_err(Broken::from).flatten().map_err(|broken| broken.at(&self.path))
    }
}

impl Sink for Ndjson {
    fn write<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<()>> {
        let small = events.iter().map(|event| event.body.len() + 1);
        let small = small.filter(|&bytes| bytes <= LARGE_EVENT_BYTES).sum();
        let mut lines = Pieces { small: Vec::with_capacity(small), ..Pieces::default() };
        events.iter().for_each(|event| self.lines.append(event, &mut lines));
        let lines = lines.close();
        let writing = self.with_file(move |opened| opened.append(&lines));
        Box::pin(async move {
            writing.await?;
            self.written.fetch_add(events.len() as u64, Ordering::Relaxed);
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async {
            // What is written from now on may be in time for this flush or not.
            let written = self.written.swap(0, Ordering::Relaxed);
            let path = self.path.clone();
            let held = self.with_file(move |opened| opened.sync(&path)).await?;
            metrics::acknowledged(SinkKind::Ndjson, written);
            Ok(Held::File(held))
        })
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, known: FileContent) -> Result<Ndjson> {
        Ndjson::open(path, Lines::Events, known)
    }

    fn line(line: &'static [u8]) -> [Bytes; 1] {
        [Bytes::from_static(line)]
    }

    fn content(path: &Path) -> FileContent {
        let file = File::open(path).unwrap();
        FileContent::before(&file, end_of_whole_lines(&file).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn large_events_are_lines_like_others() {
        let folder = tempfile::tempdir().unwrap();
        let table = std::sync::Arc::new(crate::model::TableName {
            schema: "public".into(),
            name: "t".into(),
        });
        let large = "x".repeat(LARGE_EVENT_BYTES);
        let events = ["1", "2", &large, "3", &large, &large].map(|body| Event {
            id: uuid::Uuid::nil(),
            op: Op::Delete,
            table: std::sync::Arc::clone(&table),
            key: Some(Bytes::from_static(b"7")),
            body: Bytes::copy_from_slice(body.as_bytes()),
        });
        let keyed =
            |body: &str| format!("{{\"key\":7,\"value\":{body}}}\n{{\"key\":7,\"value\":null}}\n");
        for (name, lines) in
            [("plain", Lines::Events), ("keyed", Lines::Keyed { tombstones: true })]
        {
            let path = folder.path().join(name);
            let ndjson = Ndjson::open(&path, lines, FileContent::default()).unwrap();
            ndjson.write(&events).await.unwrap();
            ndjson.flush().await.unwrap();
            let expected: String = events
                .iter()
                .map(|event| std::str::from_utf8(&event.body).unwrap())
                .map(|body| if lines == Lines::Events { format!("{body}\n") } else { keyed(body) })
                .collect();
            assert!(std::fs::read_to_string(&path).unwrap() == expected, "{name}");
        }
    }

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
            let ndjson = open(&path, FileContent::default()).unwrap();
            cut_half_line(&ndjson.file.lock().unwrap().file).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        }
    }

    #[tokio::test]
    async fn after_an_error_nothing_counts_as_durable() {
        let folder = tempfile::tempdir().unwrap();
        let ndjson = open(&folder.path().join("events"), FileContent::default()).unwrap();
        ndjson.flush().await.unwrap();
        let lost = std::io::Error::other("pages were lost");
        ndjson.with_file(|_| Err::<(), _>(lost.into())).await.unwrap_err();
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

    /// What a later opening accepts: the same content and more, half a line included, in any file.
    #[test]
    fn a_file_that_lost_what_it_held_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let text: String = (0..500).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, format!("{text}half a l")).unwrap();
        let known = content(&path);
        assert_eq!(known.length, text.len() as u64);
        let with = |text: &str| {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, text).unwrap();
            open(&path, known.clone()).err().map(|error| (error.kind(), error.to_string()))
        };
        assert_eq!(with(&text), None);
        assert_eq!(with(&format!("{text}more\n")), None);
        let cases = [
            (String::new(), "is shorter than it was"),
            (text[..text.len() - 4].to_owned(), "is shorter than it was"),
            (text.replace("499", "498") + "more\n", "has other content than it had"),
            ("x\n".repeat(text.len()), "has other content than it had"),
        ];
        for (text, why) in cases {
            let (kind, sentence) = with(&text).unwrap();
            assert_eq!(kind, ErrorKind::EventsLost);
            assert!(sentence.contains(why) && sentence.contains("--resume"), "{sentence}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        std::fs::remove_file(&path).unwrap();
        let error = open(&path, known).err().unwrap();
        assert!(error.to_string().contains("is gone"), "{error}");
        assert!(!path.exists());
    }

    /// Emptied and written on: in the end it is longer than it was known to be.
    #[test]
    fn a_file_that_was_emptied_between_two_writes_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let ndjson = open(&path, FileContent::default()).unwrap();
        let mut opened = ndjson.file.lock().unwrap();
        opened.append(&line(b"1\n")).unwrap();
        std::fs::write(&path, "22\n33\n").unwrap();
        assert!(matches!(opened.append(&line(b"4\n")), Err(Broken::Lost(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "22\n33\n");
    }

    /// What another process writes is neither taken for a loss nor for ours.
    #[test]
    fn several_may_append() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let (one, other) = (
            open(&path, FileContent::default()).unwrap(),
            open(&path, FileContent::default()).unwrap(),
        );
        let (mut one, mut other) = (one.file.lock().unwrap(), other.file.lock().unwrap());
        for _ in 0..3 {
            one.append(&line(b"one\n")).unwrap();
            other.append(&line(b"other\n")).unwrap();
            // The other dies in the middle of a line.
            std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .and_then(|mut file| file.write_all(b"ot"))
                .unwrap();
            assert_eq!(one.sync(&path).unwrap(), content(&path));
        }
        assert_eq!(content(&path).length, 30);
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let ndjson = open(&path, FileContent::default()).unwrap();
        let mut opened = ndjson.file.lock().unwrap();
        opened.append(&line(b"1\n")).unwrap();
        opened.sync(&path).unwrap();
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        assert!(matches!(opened.sync(&path), Err(Broken::Lost("is gone"))));
        std::fs::write(&path, "1\n").unwrap();
        assert!(matches!(opened.sync(&path), Err(Broken::Lost("is another file now"))));
    }
}
