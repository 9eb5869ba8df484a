//! What the host logs: the handler's lines, and its own.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many lines are kept.
const KEPT: usize = 20_000;

/// How the host classifies a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Standard output of the handler.
    Information,
    /// Standard error of the handler, if the line has `warn` in it.
    Warning,
    /// Standard error of the handler, and what failed in the host.
    Error,
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// The instance that it is of.
    pub instance: usize,
    /// How the host classifies it.
    pub level: Level,
    /// Whether the handler wrote it; else it is the host's own.
    pub by_handler: bool,
    /// The line, without its end.
    pub text: String,
}

/// The newest lines of all instances.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: Mutex<VecDeque<LogLine>>,
    echo: bool,
}

impl Log {
    pub(super) fn new(echo: bool) -> Self {
        Self { lines: Mutex::default(), echo }
    }

    pub(super) fn push(&self, line: LogLine) {
        if self.echo {
            eprintln!("[{}] {:?}: {}", line.instance, line.level, line.text);
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(super) fn lines(&self) -> Vec<LogLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
