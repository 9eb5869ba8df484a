//! Where each restore ended and whether one grew out of the other, from timeline histories.
//!
//! A restored server starts a timeline of its own when its recovery ends; its history names every
//! timeline before and the LSN at which each was left. The last of these is where its recovery
//! ended. Histories survive restarts; `pg_last_wal_replay_lsn()` does not. Read over a replication
//! connection (PostgreSQL manual, "Streaming Replication Protocol": `IDENTIFY_SYSTEM`,
//! `TIMELINE_HISTORY`), which needs the role attribute REPLICATION.

use std::path::Path;
use std::time::Duration;

use pgwire_replication as pgwire;
use secrecy::ExposeSecret;

use crate::crypto::install_crypto_provider;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Ancestor, History, Lsn, SslMode};
use crate::postgres::{Server, session_options};

/// Where two restores of one history ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OneHistory {
    /// Where base's recovery ended.
    pub base_end: Lsn,
    /// Where head's recovery ended.
    pub head_end: Lsn,
    /// Where head's history left the timeline that base was restored from: a failover in the gap,
    /// or, without one, `head_end`.
    pub left_at: Lsn,
}

/// How base's past relates to head's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lineage {
    /// Head's history runs through base's end: what differs is what happened in between.
    OneHistory(OneHistory),
    /// Base's history runs through head's end: the two were given the wrong way round.
    Swapped,
    /// One cluster, but base is on a branch that head never was on (a failover between them).
    Forked,
    /// Two clusters.
    Strangers,
}

impl History {
    /// Reads a server's history.
    ///
    /// # Errors
    /// Transient if the server cannot be reached; otherwise says what is missing, most often the
    /// role attribute REPLICATION.
    pub async fn read(server: &Server) -> Result<Self> {
        let reading = tokio::time::timeout(Duration::from_secs(15), Self::read_unbounded(server));
        reading.await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Transient,
                format!("the timeline history of {server} could not be read in 15 s"),
            ))
        })
    }

    async fn read_unbounded(server: &Server) -> Result<Self> {
        let failed = |error: pgwire::PgWireError| {
            let error = error.to_string();
            let advice = match () {
                // insufficient_privilege
                () if error.contains("42501") => {
                    "; give the role REPLICATION (alter role … with replication)"
                }
                () if error.contains("is an IP address") => {
                    "; name the server by its host name, or use sslmode verify-ca"
                }
                () => "",
            };
            Error::item(format!(
                "the timeline history of {} cannot be read: {error}{advice}",
                server.side()
            ))
        };
        install_crypto_provider();
        let mut config = pgwire::ReplicationConfig::default();
        config.host = server.host().to_owned();
        config.port = server.port();
        config.user = server.user().to_owned();
        let password = server.password().await?;
        config.password = password.map_or_else(String::new, |it| it.expose_secret().into());
        config.database = server.database().to_owned();
        config.application_name = Some("deltacompare history".to_owned());
        config.options = Some(session_options(0));
        config.tls.mode = match server.ssl_mode() {
            SslMode::Disable => pgwire::SslMode::Disable,
            SslMode::Prefer => pgwire::SslMode::Prefer,
            SslMode::Require => pgwire::SslMode::Require,
            SslMode::VerifyCa => pgwire::SslMode::VerifyCa,
            SslMode::VerifyFull => pgwire::SslMode::VerifyFull,
        };
        config.tls.ca_pem_path = server.ssl_root_cert().map(Path::to_owned);
        let mut client = pgwire::ReplicationClient::connect_gated(config).await.map_err(failed)?;
        let system = client.identify_system().await.map_err(failed)?;
        let content = if system.timeline == 1 {
            None
        } else {
            Some(client.timeline_history(system.timeline).await.map_err(failed)?.content)
        };
        client.abort();
        let content = content.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        Ok(Self {
            system_identifier: system.system_id,
            timeline: system.timeline,
            ancestors: parse_history(&content)?,
        })
    }
}

impl Lineage {
    /// Relates two histories.
    ///
    /// One history: base's chain without its last entry is a prefix of head's chain, and base's
    /// end is not past the point where head's chain leaves that timeline.
    pub(crate) fn of(base: &History, head: &History) -> Self {
        if base.system_identifier != head.system_identifier {
            return Self::Strangers;
        }
        match (base.recovery_end(), head.recovery_end()) {
            (Some(base_end), Some(head_end)) if runs_through(head, base) => {
                let left_at = head.ancestors[base.ancestors.len() - 1].left_at;
                Self::OneHistory(OneHistory { base_end, head_end, left_at })
            }
            _ if runs_through(base, head) => Self::Swapped,
            _ => Self::Forked,
        }
    }
}

/// Whether `later`'s history contains the moment at which `earlier`'s recovery ended.
fn runs_through(later: &History, earlier: &History) -> bool {
    let Some((end, before)) = earlier.ancestors.split_last() else { return false };
    later.ancestors.starts_with(before)
        && later
            .ancestors
            .get(before.len())
            .is_some_and(|left| left.timeline == end.timeline && end.left_at <= left.left_at)
}

/// A history file: `timeline LSN reason` a line, oldest first (PostgreSQL sources, timeline.c).
fn parse_history(content: &str) -> Result<Vec<Ancestor>> {
    content
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            let timeline = words.next().and_then(|word| word.parse().ok());
            let left_at = words.next().and_then(|word| word.parse().ok());
            timeline
                .zip(left_at)
                .map(|(timeline, left_at)| Ancestor { timeline, left_at })
                .ok_or_else(|| {
                    Error::item(format!("a timeline history has a line of unknown form: {line:?}"))
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(ancestors: &[(u32, u64)]) -> History {
        History {
            system_identifier: "7".into(),
            timeline: ancestors.last().map_or(1, |(timeline, _)| timeline + 1),
            ancestors: ancestors
                .iter()
                .map(|&(timeline, lsn)| Ancestor { timeline, left_at: Lsn(lsn) })
                .collect(),
        }
    }

    #[test]
    fn two_restores_of_one_timeline() {
        let (base, head) = (history(&[(1, 100)]), history(&[(1, 200)]));
        assert_eq!(
            Lineage::of(&base, &head),
            Lineage::OneHistory(OneHistory {
                base_end: Lsn(100),
                head_end: Lsn(200),
                left_at: Lsn(200)
            })
        );
        assert_eq!(Lineage::of(&head, &base), Lineage::Swapped);
    }

    #[test]
    fn a_failover_in_the_gap_is_one_history_only_if_base_is_before_it() {
        let head = history(&[(1, 150), (2, 300)]);
        assert_eq!(
            Lineage::of(&history(&[(1, 100)]), &head),
            Lineage::OneHistory(OneHistory {
                base_end: Lsn(100),
                head_end: Lsn(300),
                left_at: Lsn(150)
            })
        );
        // Base was restored from the old primary, past the point where the new one left it.
        assert_eq!(Lineage::of(&history(&[(1, 160)]), &head), Lineage::Forked);
    }

    #[test]
    fn equal_timeline_numbers_prove_nothing() {
        let base = history(&[(1, 100), (2, 180)]);
        let head = history(&[(1, 120), (2, 200)]);
        assert_eq!((base.timeline, head.timeline), (3, 3));
        assert_eq!(Lineage::of(&base, &head), Lineage::Forked);
    }

    #[test]
    fn other_clusters_and_servers_never_restored() {
        let base = history(&[(1, 100)]);
        let other = History { system_identifier: "8".into(), ..history(&[(1, 200)]) };
        assert_eq!(Lineage::of(&base, &other), Lineage::Strangers);
        assert_eq!(Lineage::of(&base, &history(&[])), Lineage::Forked);
    }

    #[test]
    fn history_files_parse() {
        let parsed =
            parse_history("1\t0/3000148\tno recovery target specified\n\n2\t0/5000060\tat \"x\"\n");
        assert_eq!(parsed.unwrap(), history(&[(1, 0x300_0148), (2, 0x500_0060)]).ancestors);
        assert!(parse_history("one 0/1").is_err());
    }
}
