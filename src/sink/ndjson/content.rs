//! What a file of whole lines holds, and whether it still does.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::Broken;

/// What a file held at some moment: so many bytes of whole lines. Files are only appended to, so
/// one that holds other bytes up to there has lost events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileContent {
    pub(super) length: u64,
    /// SHA-1, in hexadecimal, of the last [`TAIL`] bytes. It tells this file's content, wherever it
    /// was copied to, from that of any other: every line has an event id.
    tail: String,
}

/// How much of a file's known content is compared, in bytes before its end.
const TAIL: u64 = 1024;

impl FileContent {
    /// What stands before this position, which is the end of a line.
    pub(super) fn before(file: &File, length: u64) -> std::io::Result<Self> {
        let from = length.saturating_sub(TAIL);
        let mut tail = vec![0; (length - from) as usize];
        file.read_exact_at(&mut tail, from)?;
        let tail = Sha1::digest(&tail).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { length, tail })
    }

    /// Whether a file still begins with this.
    pub(super) fn check(&self, file: &File) -> Result<(), Broken> {
        if self.length == 0 {
            return Ok(());
        }
        if file.metadata()?.len() < self.length {
            return Err(Broken::Lost("is shorter than it was"));
        }
        if Self::before(file, self.length)? != *self {
            return Err(Broken::Lost("has other content than it had"));
        }
        Ok(())
    }
}

/// Cuts off what stands behind the last newline.
pub(super) fn cut_half_line(file: &File) -> std::io::Result<()> {
    let end = end_of_whole_lines(file)?;
    if end == file.metadata()?.len() { Ok(()) } else { file.set_len(end) }
}

/// The position behind the last newline of the whole file.
pub(super) fn end_of_whole_lines(file: &File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last == [b'\n'] { Ok(length) } else { end_of_last_line(file, length) }
}

/// The position behind the last newline before this one.
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
