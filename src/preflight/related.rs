//! How the two restores relate: by their timeline histories, as they are now or as they were recorded.

use super::lineage::{Lineage, OneHistory};
use super::record::RecordedHistories;
use super::{Findings, Servers, restores};
use crate::error::Result;
use crate::model::{History, Record, Request};
use crate::postgres::Side;

/// The histories of two restores as they were restored: of one that was promoted since, and of both if
/// they cannot be read now, what was recorded.
fn with_recorded(
    now: Result<(History, History)>,
    RecordedHistories { histories, promoted }: RecordedHistories,
    record: &Record,
    findings: &mut Findings,
) -> Result<(History, History)> {
    match (now, histories) {
        (Ok((mut base, mut head)), _) => {
            for side in promoted {
                let (history, recorded) = if side == Side::Base {
                    (&mut base, &record.base)
                } else {
                    (&mut head, &record.head)
                };
                if let Some(recorded) = &recorded.history {
                    history.clone_from(recorded);
                }
            }
            Ok((base, head))
        }
        (Err(error), Some(recorded)) => {
            findings.warn(format!(
                "where the restores ended is as it was recorded at {} and {}: {error}",
                record.base.at, record.head.at
            ));
            Ok(recorded)
        }
        (Err(error), None) => Err(error),
    }
}

/// How the two restores relate.
pub(super) struct Related {
    /// Where they ended, or why that is not known.
    pub(super) history: Result<OneHistory, String>,
    /// Whether an oid means the same on both.
    pub(super) one_lineage: bool,
    /// Whether one was promoted since it was recorded: what was written to it before cannot be seen.
    pub(super) promoted: bool,
}

/// Relates the two restores, or says why that cannot be done. Histories that cannot be read are taken
/// from the record, if the request has one. What is known from neither is a warning; two servers given
/// the wrong way round are refused, by their histories if they are known, else by their transaction
/// counters.
pub(super) async fn relate(
    servers: &Servers,
    request: &Request,
    base: &restores::Facts,
    head: &restores::Facts,
    findings: &mut Findings,
) -> Related {
    const SWAPPED: &str = "base and head are swapped: head was restored to an earlier moment than \
                           base; exchange --base and --head";
    let mut promoted = false;
    let mut histories =
        tokio::try_join!(History::read(&servers.base), History::read(&servers.head));
    if let Some(record) = &request.recorded {
        let now = histories.as_ref().ok().map(|(base, head)| (base, head));
        match record.histories((&servers.base, &base.restore), (&servers.head, &head.restore), now)
        {
            Ok(recorded) => {
                promoted = !recorded.promoted.is_empty();
                for side in &recorded.promoted {
                    findings.warn(format!(
                        "{side} was promoted since it was recorded, as a server is whose size was \
                         changed: where it was restored to is as recorded, and what was written to it \
                         before cannot be seen, so contents are compared"
                    ));
                }
                histories = with_recorded(histories, recorded, record, findings);
            }
            Err(error) => findings.refuse(error.to_string()),
        }
    }
    let related = |history, one_lineage| Related { history, one_lineage, promoted };
    match histories.map(|(base, head)| Lineage::of(&base, &head)) {
        Ok(Lineage::OneHistory(history)) => return related(Ok(history), true),
        Ok(Lineage::Swapped) => findings.refuse(SWAPPED),
        Ok(Lineage::Forked) => findings.warn(
            "base is not on head's history (restores of two sides of a failover, or a server that \
             was never restored): the events turn base's state into head's, which need not be \
             what downstream missed",
        ),
        Ok(Lineage::Strangers) => findings.warn(
            "base and head are restores of different servers: the events turn base's state into \
             head's, which need not be what downstream missed",
        ),
        Err(error) => {
            if base.system_identifier == head.system_identifier
                && head.next_transaction < base.next_transaction
            {
                findings.refuse(SWAPPED);
            }
            findings.warn(format!("that head continues base's history is not proved: {error}"));
            return related(
                Err(format!("that head continues base's history is not proved: {error}")),
                base.system_identifier == head.system_identifier,
            );
        }
    }
    // After a fork both sides give the same oids to different tables.
    related(Err("base is not on head's history".to_owned()), false)
}
