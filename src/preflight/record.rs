//! What two restores are right after they were made, and what they say of their past, kept in a file.
//!
//! It serves two purposes. A recovery compares tables and publications with it, so that what was
//! altered on a restore since then is not taken for a change of production's. And where a recovery
//! cannot read the timeline histories itself (the role has lost REPLICATION, or the service offers no
//! replication connections later on), it takes them from the file.

mod alterations;
mod relations;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;

use super::{Servers, login_triggers, restore_ended, restore_id, same_restore};
use crate::error::{Error, Result};
use crate::model::{History, Record, Recorded};
use crate::postgres::{Server, Session, Side, from_row};

pub(crate) use alterations::{RecordedRelations, altered_publications};
pub(crate) use relations::{publications, relations};

struct ServerRow {
    in_recovery: bool,
    at: i64,
    started_at: i64,
    last_replayed: Option<String>,
    last_commit: Option<i64>,
    next_transaction: Option<String>,
    first_transaction: Option<String>,
    newest_oid: i64,
}

from_row!(ServerRow {
    in_recovery,
    at,
    started_at,
    last_replayed,
    last_commit,
    next_transaction,
    first_transaction,
    newest_oid
});

impl Record {
    /// Asks both servers. Changes nothing on either.
    ///
    /// A history that cannot be read is no error: the record says why.
    ///
    /// # Errors
    /// If a server cannot be reached, or is still being restored.
    pub async fn of(servers: &Servers) -> Result<Self> {
        let (base, head) = servers.connect_unpooled("deltacompare record").await?;
        let (base, head) =
            tokio::try_join!(Recorded::of(&servers.base, base), Recorded::of(&servers.head, head))?;
        Ok(Self { base, head })
    }

    /// Writes it to a new file, durably. An older record is not overwritten: what it has may be
    /// gone from the servers.
    ///
    /// # Errors
    /// Refused if there is such a file, or it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |error: std::io::Error| {
            Error::refused(format!(
                "the record cannot be written to {}: {error}; name a new file in a folder that \
                 exists",
                path.display()
            ))
            .because(error)
        };
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
        file.write_all((text + "\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// The two histories, if the record is of these restores and has them. `now`: what the servers say
    /// of their histories, if they do. One that has gone on since it was recorded is a promoted standby
    /// of the restore, which a server becomes when its size is changed on Azure: how it was restored is
    /// in the record.
    ///
    /// # Errors
    /// Refused if the record is of other restores.
    pub(crate) fn histories(
        &self,
        base: (&Server, &str),
        head: (&Server, &str),
        now: Option<(&History, &History)>,
    ) -> Result<RecordedHistories> {
        let mut promoted = Vec::new();
        let (base_now, head_now) = now.unzip();
        for (recorded, (server, restore), now) in
            [(&self.base, base, base_now), (&self.head, head, head_now)]
        {
            let found = (address(server), restore);
            let went_on = recorded
                .history
                .as_ref()
                .zip(now)
                .is_some_and(|(recorded, now)| recorded.goes_on_in(now))
                && same_database(&recorded.restore, found.1);
            if recorded.server == found.0 && went_on {
                promoted.push(server.side());
                continue;
            }
            if recorded.server != found.0 || !same_restore(&recorded.restore, found.1) {
                return Err(Error::refused(format!(
                    "the record is of another restore than {} ({}, {} was recorded; {}, {} is \
                     there): name the record of these two servers by the names that it has, or \
                     leave --recorded out",
                    server.side(),
                    recorded.server,
                    recorded.restore,
                    found.0,
                    found.1
                )));
            }
        }
        let histories = self.base.history.clone().zip(self.head.history.clone());
        Ok(RecordedHistories { histories, promoted })
    }
}

/// What a record has of the histories of two restores.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecordedHistories {
    /// Base's and head's, if both could be read then.
    pub(crate) histories: Option<(History, History)>,
    /// Which of the servers was promoted since.
    pub(crate) promoted: Vec<Side>,
}

/// Whether two identities of restores are of one database of one cluster, whatever its timeline.
fn same_database(one: &str, other: &str) -> bool {
    let parts = |text: &str| -> (Option<String>, Option<String>) {
        let part = |place| text.split('/').nth(place).map(str::to_owned);
        (part(0), part(2))
    };
    parts(one) == parts(other)
}

impl Recorded {
    async fn of(server: &Server, connection: Session) -> Result<Self> {
        let row: ServerRow = connection.query_one(
r#"
            select pg_is_in_recovery() as in_recovery,
                   (extract(epoch from clock_timestamp()) * 1000)::int8 as at,
                   (extract(epoch from pg_postmaster_start_time()) * 1000)::int8 as started_at,
                   textin(pg_lsn_out(pg_last_wal_replay_lsn())) as last_replayed,
                   (extract(epoch from pg_last_xact_replay_timestamp()) * 1000)::int8 as last_commit,
                   case when not pg_is_in_recovery()
                        then format('%s', pg_snapshot_xmax(pg_current_snapshot()))
                   end as next_transaction,
                   -- The checkpoint that ends a recovery begins a timeline; no later one does.
                   (select c.next_xid from pg_control_checkpoint() c
                     where c.prev_timeline_id <> c.timeline_id) as first_transaction,
                   greatest((select max(oid) from pg_class), (select max(oid) from pg_type),
                            (select max(oid) from pg_proc), (select max(oid) from pg_operator),
                            (select max(oid) from pg_namespace), (select max(oid) from pg_roles),
                            (select max(oid) from pg_ts_config), (select max(oid) from pg_ts_dict),
                            (select max(oid) from pg_collation))::int8 as newest_oid
            "#,
&[],
)
        .await?;
        let side = server.side();
        if let Some(sentence) = login_triggers(&connection).await? {
            return Err(Error::refused(sentence));
        }
        if row.in_recovery {
            return Err(Error::refused(format!(
                "{side} is still in recovery: wait until its restore has ended"
            )));
        }
        let (restore, system_identifier) = restore_id(&connection).await?;
        let moment = |milliseconds| {
            Timestamp::from_millisecond(milliseconds)
                .map_err(|error| Error::item(format!("{side}'s clock is wrong")).because(error))
        };
        let ended_at = restore_ended(&connection).await?.map(|second| moment(second * 1000));
        let next_transaction = row.next_transaction.and_then(|text| text.parse().ok());
        let first_transaction = row.first_transaction.as_deref().and_then(full_transaction_id);
        let transactions = next_transaction
            .zip(first_transaction)
            .map(|(next, first): (u64, u64)| next.saturating_sub(first));
        let recorded = relations(&connection, transactions.unwrap_or(0), None).await?;
        let publications = publications(&connection).await?;
        let (history, history_error) = match History::read(server).await {
            Ok(history) => (Some(history), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Ok(Self {
            at: moment(row.at)?,
            started_at: moment(row.started_at)?,
            server: address(server),
            restore,
            system_identifier,
            last_replayed: row
                .last_replayed
                .filter(|lsn| !lsn.is_empty())
                .map(|lsn| lsn.parse())
                .transpose()?,
            recovery_end: history.as_ref().and_then(History::recovery_end),
            history,
            history_error,
            ended_at: ended_at.transpose()?,
            last_commit: row.last_commit.map(moment).transpose()?,
            next_transaction,
            transactions,
            newest_oid: Some(row.newest_oid as u32),
            relations: Some(recorded),
            publications,
        })
    }

    /// When it was recorded and what may have happened before, for people: a clause that follows
    /// `base was recorded`.
    pub fn when(&self) -> String {
        let after = match self.ended_at {
            Some(ended_at) => {
                let seconds = self.at.duration_since(ended_at).as_secs().max(0);
                format!("{seconds} s after its recovery had ended")
            }
            None => "how long after the end of its recovery is not known".to_owned(),
        };
        let between = match self.transactions {
            Some(0) => "no transaction in between".to_owned(),
            Some(1) => "1 transaction in between".to_owned(),
            Some(many) => format!("{many} transactions in between"),
            None => "transactions in between are not known".to_owned(),
        };
        format!("at {} ({after}; {between})", self.at)
    }
}

/// `epoch:id`, as the control file has it, in one number.
fn full_transaction_id(text: &str) -> Option<u64> {
    let (epoch, id) = text.split_once(':')?;
    Some(epoch.parse::<u64>().ok()? << 32 | id.parse::<u64>().ok()?)
}

fn address(server: &Server) -> String {
    format!("{}:{}/{}", server.host(), server.port(), server.database())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ancestor, Lsn};

    fn recorded(restore: &str) -> Recorded {
        Recorded {
            at: Timestamp::UNIX_EPOCH,
            started_at: Timestamp::UNIX_EPOCH,
            server: "db:5432/shop".to_owned(),
            restore: restore.to_owned(),
            system_identifier: "7".to_owned(),
            last_replayed: Some(Lsn(100)),
            recovery_end: Some(Lsn(100)),
            history: Some(History {
                system_identifier: "7".to_owned(),
                timeline: 2,
                ancestors: Vec::new(),
            }),
            history_error: None,
            ended_at: None,
            last_commit: None,
            next_transaction: None,
            transactions: None,
            newest_oid: None,
            relations: None,
            publications: Vec::new(),
        }
    }

    #[test]
    fn a_record_says_how_late_it_was_made() {
        assert_eq!(full_transaction_id("2:735"), Some((2 << 32) + 735));
        let at = |second| Timestamp::from_second(second).unwrap();
        let late = Recorded {
            at: at(75),
            ended_at: Some(at(5)),
            transactions: Some(1),
            ..recorded("7/2/5")
        };
        assert_eq!(
            late.when(),
            "at 1970-01-01T00:01:15Z (70 s after its recovery had ended; 1 transaction in between)"
        );
        let unknown = recorded("7/2/5").when();
        assert!(
            unknown.contains("is not known; transactions in between are not known"),
            "{unknown}"
        );
    }

    #[test]
    fn records_of_older_versions_are_read() {
        let mut old = serde_json::to_value(recorded("7/2/5")).unwrap();
        for field in [
            "ended_at",
            "last_commit",
            "next_transaction",
            "transactions",
            "newest_oid",
            "relations",
            "publications",
        ] {
            old.as_object_mut().unwrap().remove(field).unwrap();
        }
        assert_eq!(serde_json::from_value::<Recorded>(old).unwrap(), recorded("7/2/5"));
    }

    #[test]
    fn a_file_gives_back_what_was_written_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recorded.json");
        let record = Record { base: recorded("7/00000002/5"), head: recorded("7/00000003/5") };
        record.write(&path).unwrap();
        assert_eq!(Record::read(path.to_str().unwrap()).unwrap(), record);
        let other = Record { base: recorded("8/00000002/5"), ..record.clone() };
        assert!(other.write(&path).is_err());
        assert_eq!(Record::read(path.to_str().unwrap()).unwrap(), record);
    }

    #[test]
    fn a_record_of_other_restores_is_refused() {
        let server = |url| Server::parse(Side::Base, url, None).unwrap();
        let (here, elsewhere) =
            (server("postgres://me@db/shop"), server("postgres://me@other/shop"));
        let record = Record { base: recorded("7/2/5"), head: recorded("7/3/5") };
        let histories =
            |record: &Record, base, head| record.histories((&here, base), (&here, head), None);
        assert!(histories(&record, "7/2/5", "7/3/5").unwrap().histories.is_some());
        for (base, head) in [("7/4/5", "7/3/5"), ("7/2/5", "7/2/5")] {
            assert!(histories(&record, base, head).is_err());
        }
        assert!(record.histories((&here, "7/2/5"), (&elsewhere, "7/3/5"), None).is_err());
        let unread = Recorded { history: None, ..recorded("7/3/5") };
        let record = Record { head: unread, ..record };
        assert!(histories(&record, "7/2/5", "7/3/5").unwrap().histories.is_none());
    }

    #[test]
    fn a_record_is_good_for_a_restore_that_was_promoted_since() {
        let here = Server::parse(Side::Base, "postgres://me@db/shop", None).unwrap();
        let history = |timelines: &[(u32, u64)]| History {
            system_identifier: "7".to_owned(),
            timeline: timelines.len() as u32 + 1,
            ancestors: timelines
                .iter()
                .map(|&(timeline, lsn)| Ancestor { timeline, left_at: Lsn(lsn) })
                .collect(),
        };
        let of = |restore, timelines: &[(u32, u64)]| Recorded {
            history: Some(history(timelines)),
            ..recorded(restore)
        };
        let record = Record { base: of("7/2/5/9", &[(1, 100)]), head: of("7/2/5/9", &[(1, 200)]) };
        let head_now = history(&[(1, 200)]);
        let with_base = |restore, timelines: &[(u32, u64)]| {
            let base_now = history(timelines);
            record.histories((&here, restore), (&here, "7/2/5/9"), Some((&base_now, &head_now)))
        };
        let found = with_base("7/3/5/11", &[(1, 100), (2, 150)]).unwrap();
        assert_eq!(found.promoted, [Side::Base]);
        assert_eq!(found.histories, Some((history(&[(1, 100)]), head_now.clone())));
        assert_eq!(with_base("7/2/5/9", &[(1, 100)]).unwrap().promoted, []);
        // Restored anew to another moment; promoted before it was recorded; another database.
        for (restore, timelines) in [
            ("7/3/5/11", &[(1, 90), (2, 150)][..]),
            ("7/3/5/11", &[(1, 100)]),
            ("7/3/6/11", &[(1, 100), (2, 150)]),
            ("8/3/5/11", &[(1, 100), (2, 150)]),
        ] {
            assert!(with_base(restore, timelines).is_err(), "{restore} {timelines:?}");
        }
    }
}
