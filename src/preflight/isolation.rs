//! Nothing on a copy may act by itself: it believes that it is production.

use super::Findings;
use crate::error::Result;
use crate::postgres::{Server, Session, Side};

/// Refuses enabled subscriptions, active jobs and event triggers; warns of foreign servers and
/// replication slots.
pub(super) async fn quiet(
    side: Side,
    server: &Server,
    connection: &mut Session,
    findings: &mut Findings,
) -> Result<()> {
    let subscriptions: Vec<String> = connection
        .query("select subname::text from pg_subscription where subenabled order by 1", &[])
        .await?;
    if !subscriptions.is_empty() {
        findings.refuse(format!(
            "{side} has enabled subscriptions ({}): a restored subscriber takes changes from its \
             publisher for good; isolate it and run: alter subscription … disable",
            subscriptions.join(", ")
        ));
    }
    jobs(side, server, connection, findings).await?;
    event_triggers(side, connection, findings).await?;
    foreign_servers(side, connection, findings).await?;
    slots(side, connection, findings).await?;
    Ok(())
}

/// Foreign servers other than ours. Nothing that runs here may use them; what would, writes to the
/// real ones.
async fn foreign_servers(side: Side, connection: &Session, findings: &mut Findings) -> Result<()> {
    let servers: Vec<String> = connection
        .query(
            r#"
            select srvname::text from pg_foreign_server
             where srvname !~ '^deltacompare_[0-9a-f]{12}$'
             order by 1
            "#,
            &[],
        )
        .await?;
    if !servers.is_empty() {
        findings.warn(format!(
            "{side} has foreign servers ({}): a job or a trigger of the copy would write through \
             them to the real ones; drop their user mappings there unless you need them",
            servers.join(", ")
        ));
    }
    Ok(())
}

/// Replication slots that came with the copy. Nobody reads from them there, so all WAL since then stays.
async fn slots(side: Side, connection: &Session, findings: &mut Findings) -> Result<()> {
    let slots: Vec<String> = connection
        .query(
            "select slot_name::text from pg_replication_slots where not temporary order by 1",
            &[],
        )
        .await?;
    if !slots.is_empty() {
        findings.warn(format!(
            "{side} has replication slots ({}): nobody reads from them on a copy, so they keep WAL \
             until its disk is full; drop them there with select pg_drop_replication_slot(…)",
            slots.join(", ")
        ));
    }
    Ok(())
}

/// Active jobs of pg_cron (which may live in another database) and pgAgent.
async fn jobs(
    side: Side,
    server: &Server,
    connection: &mut Session,
    findings: &mut Findings,
) -> Result<()> {
    let cron_database: Option<String> =
        connection.query_one("select current_setting('cron.database_name', true)", &[]).await?;
    let mut jobs = active_jobs(side, connection, findings).await?;
    if let Some(database) = cron_database.filter(|database| database != server.database()) {
        match server.with_database(&database).connect("deltacompare preflight").await {
            Ok(mut other) => {
                jobs.extend(active_jobs(side, &mut other, findings).await?);
                other.close().await;
            }
            Err(error) => findings.refuse(format!(
                "pg_cron on {side} keeps its jobs in database {database:?}, which cannot be looked \
                 into, and its jobs run on a copy at once ({error}): let this role connect to that \
                 database, or take pg_cron out of shared_preload_libraries there and restart"
            )),
        }
    }
    if !jobs.is_empty() {
        findings.refuse(format!(
            "{side} has active scheduled jobs ({}): they run on the restored copy too; unschedule \
             them there (pg_cron, in the database of its jobs: select cron.alter_job(jobid, active \
             := false) from cron.job; pgAgent: update pgagent.pga_job set jobenabled = false)",
            jobs.join(", ")
        ));
    }
    Ok(())
}

async fn active_jobs(
    side: Side,
    connection: &mut Session,
    findings: &mut Findings,
) -> Result<Vec<String>> {
    let mut jobs = Vec::new();
    for (table, query) in [
        (
            "cron.job",
            "select coalesce(to_jsonb(j) ->> 'jobname', format('job %s', j.jobid)) from cron.job j \
             where j.active order by j.jobid",
        ),
        (
            "pgagent.pga_job",
            "select j.jobname from pgagent.pga_job j where j.jobenabled order by 1",
        ),
    ] {
        let exists: bool =
            connection.query_one("select to_regclass($1) is not null", &[&table]).await?;
        if !exists {
            continue;
        }
        // pg_cron shows each user only its own jobs; our sessions ask for all rows or an error.
        match connection.query(query, &[]).await {
            Ok(seen) => jobs.extend::<Vec<String>>(seen),
            Err(error) => {
                let transaction = connection.begin().await?;
                transaction.execute("set local row_security = on", &[]).await?;
                let own: Result<Vec<String>> = transaction.query(query, &[]).await;
                transaction.rollback().await?;
                jobs.extend(own.unwrap_or_default());
                findings.warn(format!(
                    "jobs of other users in {table} on {side} cannot be seen ({error}): make sure \
                     that none is active"
                ));
            }
        }
    }
    Ok(jobs)
}

/// The refusal of a server whose login triggers (17 and newer) have run when this session was opened,
/// and run again at each further login; `None` without any.
///
/// # Errors
/// PostgreSQL's own.
pub(crate) async fn login_triggers(connection: &Session) -> Result<Option<String>> {
    let triggers: Vec<String> = connection
        .query(
            r#"
            select evtname::text from pg_event_trigger
             where evtevent = 'login' and evtenabled in ('O', 'A')
             order by 1
            "#,
            &[],
        )
        .await?;
    let side = connection.side();
    Ok((!triggers.is_empty()).then(|| {
        format!(
            "{side} has login triggers ({}), which run at each login, ours included, and may write \
             to tables: log in there without them, as a superuser with PGOPTIONS='-c \
             event_triggers=off', and run alter event trigger … disable; where they write to \
             published tables, restore that server again before",
            triggers.join(", ")
        )
    }))
}

/// The commands that we run on either server and that event triggers can see.
const OUR_COMMANDS: &str = "{ALTER EXTENSION,COMMENT,CREATE EXTENSION,CREATE FOREIGN TABLE,\
    CREATE INDEX,CREATE SCHEMA,CREATE SERVER,CREATE TABLE,CREATE USER MAPPING,CREATE VIEW,\
    DROP EXTENSION,DROP FOREIGN TABLE,DROP SCHEMA,DROP SERVER,DROP TABLE,DROP USER MAPPING,\
    DROP VIEW,GRANT,REVOKE}";

async fn event_triggers(side: Side, connection: &Session, findings: &mut Findings) -> Result<()> {
    let triggers: Vec<(String, bool)> = connection
        .query(
            r#"
            select e.evtname::text,
                   exists (select from pg_depend d
                            where d.classid = 'pg_event_trigger'::regclass and d.objid = e.oid
                              and d.deptype = 'e')
              from pg_event_trigger e
             where e.evtenabled in ('O', 'A')
               and e.evtevent in ('ddl_command_start', 'ddl_command_end', 'sql_drop')
               and (e.evttags is null or e.evttags && $1::text[])
             order by 1
            "#,
            &[&OUR_COMMANDS],
        )
        .await?;
    let (extension, own): (Vec<_>, Vec<_>) =
        triggers.into_iter().partition(|(_, of_extension)| *of_extension);
    let names = |triggers: &[(String, bool)]| {
        triggers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    if !own.is_empty() {
        findings.refuse(format!(
            "{side} has event triggers that would fire on our own commands ({}) and may write to \
             published tables: run alter event trigger … disable on the restored copy",
            names(&own)
        ));
    }
    if !extension.is_empty() {
        findings.warn(format!(
            "event triggers of extensions fire on our own commands on {side} ({})",
            names(&extension)
        ));
    }
    Ok(())
}
