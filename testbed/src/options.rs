//! How a cluster is set up.

use std::path::PathBuf;

use crate::tls::Tls;

/// How production, and the servers restored from it, are set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tests' database.
    pub database: String,
    /// Whether the servers speak TLS.
    pub tls: Tls,
    /// Lines for `postgresql.conf`, of production and, as on Azure, of its restores.
    pub conf: Vec<String>,
    /// The size of a WAL segment in MB: 1 makes archiving cheap, 16 is PostgreSQL's default.
    pub wal_segment_mb: u32,
    /// Where the temporary folder is created. By default in `TMPDIR`, else in `/dev/shm` if
    /// [`space_gib`](Self::space_gib) are free there, else in `/tmp`; name a disk for runs that need
    /// much space. The account that runs the servers must be able to enter it, and its name may hold
    /// only letters, digits, `/`, `_`, `.` and `-`.
    pub folder: Option<PathBuf>,
    /// How much space the servers with their backup and archive may need, in GiB.
    pub space_gib: u64,
    /// Whether the cluster has a system identifier of its own. Productions of one process have the
    /// same one otherwise, since they are copies of one template.
    pub own_identifier: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            database: "shop".to_owned(),
            tls: Tls::Off,
            conf: Vec::new(),
            wal_segment_mb: 1,
            folder: None,
            space_gib: 4,
            own_identifier: false,
        }
    }
}
