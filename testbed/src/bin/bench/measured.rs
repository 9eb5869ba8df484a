//! What one run cost.

use std::fmt;
use std::time::Duration;

/// What one run cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Wall time; for the program, without what an empty table takes too.
    pub(crate) seconds: f64,
    /// What the program takes for an empty table.
    pub(crate) fixed_seconds: f64,
    /// Changes found, if the contender counts them.
    pub(crate) changes: Option<u64>,
    /// What it wrote to a file.
    pub(crate) written_bytes: u64,
    /// The contender's own process, if it has one: CPU time and peak of its resident memory.
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mb: f64,
    /// What the stand-in for Event Hubs took, if there was one: it shares the machine.
    pub(crate) standin_cpu_seconds: f64,
    pub(crate) servers: ServersCost,
    pub(crate) moved: Moved,
}

/// What a run cost the two servers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServersCost {
    pub(crate) base: ServerCost,
    pub(crate) head: ServerCost,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerCost {
    /// CPU time of all its processes.
    pub(crate) cpu_seconds: f64,
    /// `pg_stat_database.temp_bytes`.
    pub(crate) temp_bytes: u64,
    /// The most private memory that one of its processes had, and the most sessions at once.
    pub(crate) peak_mb: f64,
    pub(crate) sessions: usize,
}

/// What a server sent and received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    pub(crate) base: Traffic,
    pub(crate) head: Traffic,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// `DataRow` messages from the server.
    pub(crate) rows: u64,
    /// Bytes in both directions.
    pub(crate) bytes: u64,
}

impl Measured {
    pub(crate) fn new(took: Duration) -> Self {
        Self { seconds: took.as_secs_f64(), ..Self::default() }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", self.seconds)?;
        if self.fixed_seconds > 0.0 {
            write!(f, " (and {:.2} s for an empty table)", self.fixed_seconds)?;
        }
        if let Some(changes) = self.changes {
            write!(f, ", {changes} changes")?;
        }
        if self.cpu_seconds > 0.0 {
            write!(f, ", own CPU {:.2} s, peak {:.0} MB", self.cpu_seconds, self.peak_mb)?;
        }
        if self.standin_cpu_seconds > 0.0 {
            write!(f, ", CPU of the hub {:.1} s", self.standin_cpu_seconds)?;
        }
        let ServersCost { base, head } = self.servers;
        write!(
            f,
            ", CPU of base {:.1} s, head {:.1} s, temporary files {} MB",
            base.cpu_seconds,
            head.cpu_seconds,
            (base.temp_bytes + head.temp_bytes) >> 20
        )
    }
}
