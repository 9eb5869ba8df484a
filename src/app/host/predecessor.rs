//! Which process was the handler on this instance before this one.
//!
//! The host starts the handler again when it has died, within a tenth of a second. The items of the one
//! that died are leased to it for some time yet; the one that knows that it is dead need not wait. It
//! knows by a file of the instance, which each handler keeps locked while it lives and in which it writes
//! who it is: the system releases the lock when the process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use data_encoding::HEXLOWER;
use sha1::{Digest, Sha1};
use uuid::Uuid;

/// How many handlers of one app may live on a machine, each with a file: one on Azure, more where several
/// instances are played on a desk.
const FILES: usize = 16;

/// This process among the handlers of its instance.
#[derive(Debug)]
pub(in crate::app) struct Handler {
    /// Who this process is, as the holder of leases.
    pub(in crate::app) worker: Uuid,
    /// Who the last one was, which has ended. `None` if nobody was or if it cannot be known.
    pub(in crate::app) predecessor: Option<Uuid>,
    /// Locked as long as it is open.
    _file: Option<File>,
}

impl Handler {
    /// Takes the place of a handler of the app in this folder that has ended. Without a file that can be
    /// used, nothing is known of any.
    pub(in crate::app) fn begin(app: &Path, temporary: &Path) -> Self {
        let worker = Uuid::new_v4();
        let folder = app.canonicalize().unwrap_or_else(|_| app.to_owned());
        let digest = Sha1::digest(folder.as_os_str().as_encoded_bytes());
        let name = HEXLOWER.encode(&digest[..8]);
        for place in 0..FILES {
            let path = temporary.join(format!("deltacompare-handler-{name}-{place}"));
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path);
            let Ok(mut file) = opened else { break };
            if file.try_lock().is_err() {
                // One that lives: another instance's, or one that outlives its host.
                continue;
            }
            let predecessor = exchange(&mut file, worker).ok().flatten();
            return Self { worker, predecessor, _file: Some(file) };
        }
        Self { worker, predecessor: None, _file: None }
    }
}

/// Writes this worker into the file; who was in it.
fn exchange(file: &mut File, worker: Uuid) -> std::io::Result<Option<Uuid>> {
    let mut text = String::new();
    (&*file).take(100).read_to_string(&mut text)?;
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(worker.to_string().as_bytes())?;
    Ok(text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_knows_the_one_that_ended_before_it_and_none_that_lives() {
        let (app, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let begin = || Handler::begin(app.path(), temporary.path());
        let first = begin();
        assert_eq!(first.predecessor, None);
        let beside = begin();
        assert_eq!(beside.predecessor, None);
        let (was, still) = (first.worker, beside.worker);
        drop(first);
        let second = begin();
        assert_eq!(second.predecessor, Some(was));
        drop(beside);
        assert_eq!(begin().predecessor, Some(still));
        // Another app on the same machine is none of its business.
        let other = tempfile::tempdir().unwrap();
        assert_eq!(Handler::begin(other.path(), temporary.path()).predecessor, None);
        drop(second);
    }

    #[test]
    fn without_a_folder_for_files_nothing_is_known() {
        let app = tempfile::tempdir().unwrap();
        let gone = app.path().join("gone");
        assert_eq!(Handler::begin(app.path(), &gone).predecessor, None);
    }
}
