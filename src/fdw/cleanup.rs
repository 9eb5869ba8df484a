//! Removing what recoveries created on the two servers.

use uuid::Uuid;

use super::{MARKER, RELATIONS_PER_TRANSACTION, STATUS_SCHEMA, role};
use crate::error::{Error, Result};
use crate::postgres::{Ident, QualifiedName, Session};

/// What a clean-up removed, for the operator: one line an object.
pub type Removed = Vec<String>;

/// Our objects on a server: those with our names that also carry our comment.
const SCHEMAS: &str = r#"
    select n.nspname::text from pg_namespace n
     where n.nspname ~ '^deltacompare_[0-9a-f]{12}$'
       and obj_description(n.oid, 'pg_namespace') like $1 || ' %'
"#;
const SERVERS: &str = r#"
    select s.srvname::text from pg_foreign_server s
     where s.srvname ~ '^deltacompare_[0-9a-f]{12}$'
       and obj_description(s.oid, 'pg_foreign_server') like $1 || ' %'
"#;

/// Drops what this recovery created on both servers, the status tables aside. May be repeated.
/// Sessions that still use it are ended first.
pub(crate) async fn remove(base: &Session, head: &Session, name: &Ident) -> Result<Removed> {
    // Processes that share a recovery may end at the same moment; one tidies up at a time.
    head.execute("select pg_advisory_lock(hashtextextended($1, 0))", &[&name.name()]).await?;
    let removed = remove_locked(base, head, name).await;
    head.execute("select pg_advisory_unlock(hashtextextended($1, 0))", &[&name.name()]).await?;
    removed
}

async fn remove_locked(base: &Session, head: &Session, name: &Ident) -> Result<Removed> {
    let mut removed = Vec::new();
    end_sessions(head, name).await?;
    drop_relations(head, name).await?;
    if is_ours(head, SERVERS, name).await? {
        head.batch_execute(&format!("drop server {name} cascade")).await?;
        removed.push(format!("head: foreign server, user mapping and foreign tables {name}"));
    }
    drop_schema(head, name, "head", &mut removed).await?;
    end_sessions(base, name).await?;
    drop_relations(base, name).await?;
    drop_schema(base, name, "base", &mut removed).await?;
    if role::drop(base, name).await? {
        removed.push(format!("base: role {name}"));
    }
    Ok(removed)
}

/// Everything that any recovery ever created on the two servers, the status tables and the delta
/// table included, and the extension where a recovery created it and nothing else uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// The recoveries that the status tables know, with how they stand and what the delta table has
    /// of them: one line each, the oldest first.
    pub recoveries: Vec<String>,
    /// How many events the delta table has, of all of them.
    pub delta_rows: u64,
    /// The objects: one line each.
    pub objects: Vec<String>,
    /// The names that objects of single recoveries have.
    names: Vec<String>,
    extension: Extension,
    /// Whether the tables in the schema of this name are ours.
    status_schema: bool,
}

/// Where the extension is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extension {
    /// Not in our schema, or nowhere.
    #[default]
    Elsewhere,
    /// In our schema, and somebody else's foreign servers live on it: it stays, and the schema with it,
    /// since Azure lets nobody put an extension into another schema.
    Used,
    /// In our schema, and of no use to anybody.
    Unused,
}

impl Remains {
    /// Looks for them. Changes nothing.
    ///
    /// # Errors
    /// Refused while a recovery is at work.
    pub async fn find(base: &Session, head: &Session) -> Result<Self> {
        refuse_while_at_work(head).await?;
        let mut found = Self::default();
        for (side, kind, names) in [
            ("head", "foreign server, user mapping and foreign tables", ours(head, SERVERS).await?),
            ("head", "schema", ours(head, SCHEMAS).await?),
            ("base", "schema", ours(base, SCHEMAS).await?),
            ("base", "role", role::ours(base).await?),
        ] {
            found.objects.extend(names.iter().map(|name| format!("{side}: {kind} {name}")));
            found.names.extend(names);
        }
        found.names.sort();
        found.names.dedup();
        let status = Ident::new(STATUS_SCHEMA);
        let extension_is_ours = exists(
            head,
            "select from pg_extension where extname = 'postgres_fdw' \
                and extnamespace = (select oid from pg_namespace where nspname = $1)",
            &status,
        )
        .await?;
        if extension_is_ours {
            let used: bool = head
                .query_one(
                    "select exists (select from pg_foreign_server s join pg_foreign_data_wrapper w \
                 on w.oid = s.srvfdw \
                 where w.fdwname = 'postgres_fdw' and not s.srvname = any($1))",
                    &[&found.names],
                )
                .await?;
            found.extension = if used { Extension::Used } else { Extension::Unused };
            if !used {
                found.objects.push("head: extension postgres_fdw".to_owned());
            }
        }
        // Somebody else's schema may have this name.
        found.status_schema = exists(
            head,
            "select from pg_class where relname = 'refinery_schema_history' \
                and relnamespace = (select oid from pg_namespace where nspname = $1)",
            &status,
        )
        .await?;
        if found.status_schema {
            found.objects.push(found.status_said().to_owned());
            found.find_recoveries(head).await?;
        }
        Ok(found)
    }

    async fn find_recoveries(&mut self, head: &Session) -> Result<()> {
        let whole: bool = head
            .query_one(
                r#"
            select to_regclass('deltacompare.recovery') is not null
                   and to_regclass('deltacompare.delta') is not null
            "#,
                &[],
            )
            .await?;
        if !whole {
            return Ok(());
        }
        let recoveries: Vec<(String, i64)> = head
            .query(
                r#"
            select format('recovery %s: %s, %s events in the delta table',
                          coalesce(r.id, d.recovery_id),
                          case when r.id is null then 'without a status'
                               else format('%s%s, database %s, begun %s', r.state,
                                           case when r.state in ('planning', 'running')
                                                then ', can be resumed' end,
                                           r.database, r.created_at)
                           end,
                          coalesce(d.events, 0)),
                   coalesce(d.events, 0)
              from deltacompare.recovery as r
              full join (select e.recovery_id, count(*) as events
                           from deltacompare.delta as e
                          group by e.recovery_id) as d on d.recovery_id = r.id
             order by r.created_at
            "#,
                &[],
            )
            .await?;
        for (recovery, events) in recoveries {
            self.recoveries.push(recovery);
            self.delta_rows += events.unsigned_abs();
        }
        Ok(())
    }

    /// The status, for people.
    fn status_said(&self) -> &'static str {
        match self.extension {
            Extension::Used => {
                "head: status and delta tables (their schema deltacompare stays: it holds \
                 postgres_fdw, which others use)"
            }
            _ => "head: schema deltacompare (status and delta tables)",
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Drops them. A recovery that began meanwhile keeps what it has.
    ///
    /// # Errors
    /// Refused while a recovery is at work.
    pub async fn remove(self, base: &Session, head: &mut Session) -> Result<Removed> {
        let mut removed = Vec::new();
        let status = self.status_said();
        for name in self.names {
            removed.extend(remove(base, head, &Ident::new(name)).await?);
        }
        if self.extension == Extension::Unused {
            head.batch_execute("drop extension postgres_fdw").await?;
            removed.push("head: extension postgres_fdw".to_owned());
        }
        if self.status_schema {
            drop_status(head, self.extension == Extension::Used).await?;
            removed.push(status.to_owned());
        } else if self.extension == Extension::Unused
            && head.batch_execute("drop schema deltacompare").await.is_ok()
        {
            // The status is in another database; here the schema held the extension only.
            removed.push("head: schema deltacompare".to_owned());
        }
        Ok(removed)
    }
}

/// Drops status and delta tables and, unless it is to stay, their schema; not if a recovery has begun
/// since they were looked at: nothing can be registered between the second look and the drop.
async fn drop_status(head: &mut Session, schema_stays: bool) -> Result<()> {
    let transaction = head.begin().await?;
    let exists: bool = transaction
        .query_one("select to_regclass('deltacompare.recovery') is not null", &[])
        .await?;
    if exists {
        transaction
            .batch_execute("lock table deltacompare.recovery in access exclusive mode")
            .await?;
        refuse_while_at_work(&transaction).await?;
    }
    if schema_stays {
        let tables: Vec<String> = transaction
            .query(
                r#"
                select c.relname::text from pg_class c
                 where c.relnamespace = (select oid from pg_namespace where nspname = $1)
                   and c.relkind = 'r'
                "#,
                &[&STATUS_SCHEMA],
            )
            .await?;
        for table in tables {
            let table = QualifiedName::new(STATUS_SCHEMA, table);
            transaction.batch_execute(&format!("drop table {table} cascade")).await?;
        }
    } else {
        transaction.batch_execute("drop schema deltacompare cascade").await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The names that this query yields for objects of ours.
async fn ours(connection: &Session, query: &'static str) -> Result<Vec<String>> {
    connection.query(query, &[&MARKER]).await
}

async fn is_ours(connection: &Session, query: &'static str, name: &Ident) -> Result<bool> {
    Ok(ours(connection, query).await?.iter().any(|ours| ours == name.name()))
}

/// Drops the foreign tables or helper views of a recovery's schema, a batch a transaction: one
/// transaction could not lock thousands of them.
async fn drop_relations(connection: &Session, name: &Ident) -> Result<()> {
    while is_ours(connection, SCHEMAS, name).await? {
        let batch: Vec<(bool, String)> = connection
            .query(
                r#"
            select relkind = 'f', relname::text
              from pg_class
             where relnamespace = (select oid from pg_namespace where nspname = $1)
               and relkind in ('f', 'v')
             limit $2
            "#,
                &[&name.name(), &(RELATIONS_PER_TRANSACTION as i64)],
            )
            .await?;
        if batch.is_empty() {
            break;
        }
        let drops: Vec<String> = batch
            .into_iter()
            .map(|(foreign, relation)| {
                let kind = if foreign { "foreign table" } else { "view" };
                let relation = QualifiedName { schema: name.clone(), name: Ident::new(relation) };
                format!("drop {kind} if exists {relation} cascade")
            })
            .collect();
        connection.batch_execute(&drops.join("; ")).await?;
    }
    Ok(())
}

async fn drop_schema(
    connection: &Session,
    name: &Ident,
    side: &str,
    removed: &mut Removed,
) -> Result<()> {
    if is_ours(connection, SCHEMAS, name).await? {
        connection.batch_execute(&format!("drop schema {name} cascade")).await?;
        removed.push(format!("{side}: schema {name}"));
    }
    Ok(())
}

async fn exists(connection: &Session, query: &str, name: &Ident) -> Result<bool> {
    connection.query_one(&format!("select exists ({query})"), &[&name.name()]).await
}

/// Ends this recovery's sessions on a server: a query of a worker that died keeps its locks until
/// it notices. Workers and the foreign server carry the recovery's name as `application_name`.
async fn end_sessions(connection: &Session, name: &Ident) -> Result<()> {
    connection
        .execute(
            r#"
        select pg_terminate_backend(pid, 5000)
          from pg_stat_activity
         where application_name = $1
           and pid <> pg_backend_pid()
           and pg_has_role(current_user, usesysid, 'usage')
        "#,
            &[&name.name()],
        )
        .await?;
    Ok(())
}

/// A recovery that is under way would lose its status, and its events in the delta table. A process
/// that works on it has a lease on an item, or had one a moment ago; one that plans or closes it holds
/// a lock (see `recovery::coordinator_lock`); the app sends messages for what is due once a minute.
async fn refuse_while_at_work(head: &Session) -> Result<()> {
    let exists: bool =
        head.query_one("select to_regclass('deltacompare.work_item') is not null", &[]).await?;
    if !exists {
        return Ok(());
    }
    // Somebody else's table may have this name; then there is nothing of ours to protect.
    let at_work: Option<Uuid> = head
        .query_opt(
            r#"
        select r.id
          from deltacompare.recovery r
          left join deltacompare.work_item w on w.recovery_id = r.id
         where r.state in ('planning', 'running')
           and (w.lease_until > clock_timestamp()
                or greatest(r.sent_at, w.sent_at) > clock_timestamp() - interval '5 minutes'
                or not pg_try_advisory_xact_lock(
                         hashtextextended(format('deltacompare coordinates %s', r.id), 0)))
         limit 1
        "#,
            &[],
        )
        .await
        .unwrap_or_default();
    match at_work {
        None => Ok(()),
        Some(recovery) => Err(Error::refused(format!(
            "recovery {recovery} is at work: wait until it has ended, or stop it (one of the app: \
             cancel it) and wait until its leases have run out (30 s unless --lease-seconds says \
             otherwise); if the app is gone, wait five minutes"
        ))),
    }
}
