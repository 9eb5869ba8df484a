//! What the two roles must be allowed to do. Nothing here needs a superuser.

use std::collections::BTreeMap;

use super::Findings;
use crate::catalog::TablePair;
use crate::error::{Error, Result};
use crate::fdw;
use crate::model::TableName;
use crate::postgres::{Session, Side, from_row};

/// Tables that one sentence names at most.
const NAMED: usize = 100;

struct HeadRights {
    role: String,
    database: String,
    create: bool,
    /// Null without the extension.
    wrapper_usage: Option<bool>,
    available: bool,
    /// Azure's allow-list; null elsewhere.
    allow_list: Option<String>,
    /// Whose the status schema is; null without it.
    status_owner: Option<String>,
    status_is_ours: bool,
    status_usable: bool,
}

from_row!(HeadRights {
    role,
    database,
    create,
    wrapper_usage,
    available,
    allow_list,
    status_owner,
    status_is_ours,
    status_usable
});

pub(super) async fn check(
    base: &Session,
    head: &Session,
    pairs: &[TablePair],
    parallel: u16,
    findings: &mut Findings,
) -> Result<()> {
    // One for each work item; besides, one on base and six on head (architecture.md, "Load on the
    // servers").
    for (session, others) in [(base, 1), (head, 6)] {
        sessions(session, i32::from(parallel) + others, findings).await?;
    }
    let rights: HeadRights = head
        .query_one(
            r#"
        select current_user::text as role,
               current_database()::text as database,
               has_database_privilege(current_database(), 'create') as create,
               (select has_foreign_data_wrapper_privilege(fdwname::text, 'usage')
                  from pg_foreign_data_wrapper where fdwname = 'postgres_fdw') as wrapper_usage,
               exists (select from pg_available_extensions
                        where name = 'postgres_fdw') as available,
               current_setting('azure.extensions', true) as allow_list,
               pg_get_userbyid(n.nspowner)::text as status_owner,
               -- An empty one is ours too: of a process that begins just now, or was killed then.
               exists (select from pg_class c
                        where c.relnamespace = n.oid and c.relname = 'refinery_schema_history')
                 or not exists (select from pg_class c where c.relnamespace = n.oid)
                 as status_is_ours,
               coalesce(pg_has_role(current_user, n.nspowner, 'usage'), true) as status_usable
          from (select) one
          left join pg_namespace n on n.nspname = $1
        "#,
            &[&fdw::STATUS_SCHEMA],
        )
        .await?;
    let HeadRights { role, database, .. } = &rights;
    if !rights.create {
        findings.refuse(format!(
            "{role} may not create schemas on head: grant create on database {database} to {role}"
        ));
    }
    if let Some(owner) = &rights.status_owner {
        if !rights.status_is_ours {
            findings.refuse(format!(
                "head has a schema deltacompare of {owner} that is not ours, but the status goes \
                 into one of that name: rename it on this copy (alter schema deltacompare rename \
                 to …)"
            ));
        } else if !rights.status_usable {
            findings.refuse(format!(
                "the status schema deltacompare on head belongs to {owner}, as whom an earlier \
                 recovery ran: run as {owner}, grant {owner} to {role}, or remove it with \
                 deltacompare cleanup as {owner}"
            ));
        }
    }
    match rights.wrapper_usage {
        Some(true) => {}
        Some(false) => findings.refuse(format!(
            "{role} may not use postgres_fdw on head: grant usage on foreign data wrapper \
             postgres_fdw to {role}"
        )),
        None if !rights.available => findings.refuse(
            "head has no extension postgres_fdw to install: install PostgreSQL's contrib package \
             there",
        ),
        None => {
            let allowed = rights.allow_list.as_deref().is_none_or(|list| {
                list.split(',').any(|name| name.trim().eq_ignore_ascii_case("postgres_fdw"))
            });
            if !allowed {
                findings.refuse(
                    "head does not allow the extension postgres_fdw: add POSTGRES_FDW to its \
                     server parameter azure.extensions (Azure portal, or az postgres \
                     flexible-server parameter set)",
                );
            }
        }
    }
    let (base_role, creates_roles): (String, bool) = base
        .query_one(
            r#"
        select rolname::text, rolcreaterole or rolsuper from pg_roles where rolname = current_user
        "#,
            &[],
        )
        .await?;
    if !creates_roles {
        findings.refuse(format!(
            "{base_role} may not create the throw-away role on base with which head logs in: alter \
             role {base_role} createrole"
        ));
    }
    let bypasses = fdw::may_bypass_row_security(base).await?;
    unreadable(pairs, [(Side::Base, &base_role), (Side::Head, role)], findings);
    for pair in pairs {
        let name = &pair.table.name;
        if pair.head.row_security {
            findings.refuse(format!(
                "{name} has row security, which would hide rows of head: give the role BYPASSRLS, \
                 or leave the table out with --exclude"
            ));
        }
        let Some(on_base) = &pair.base else { continue };
        if on_base.row_security_enabled && !bypasses {
            findings.refuse(format!(
                "{name} has row security, which would hide rows of base from head: run as a \
                 superuser or (PostgreSQL 16 and newer) a role with BYPASSRLS and CREATEROLE, or \
                 leave the table out with --exclude"
            ));
        }
    }
    Ok(())
}

/// Refuses tables that may not be read, each named once, with the one grant that mends them all.
fn unreadable(pairs: &[TablePair], roles: [(Side, &String); 2], findings: &mut Findings) {
    let mut tables = BTreeMap::<&TableName, Vec<Side>>::new();
    for pair in pairs {
        for (side, relation) in [(Side::Base, pair.base.as_ref()), (Side::Head, Some(&pair.head))] {
            if relation.is_some_and(|relation| !relation.readable) {
                tables.entry(&pair.table.name).or_default().push(side);
            }
        }
    }
    if tables.is_empty() {
        return;
    }
    let list = |sides: &[Side]| sides.iter().map(Side::to_string).collect::<Vec<_>>().join(", ");
    let grants: Vec<String> = roles
        .into_iter()
        .filter(|(side, _)| tables.values().any(|sides| sides.contains(side)))
        .map(|(side, role)| format!("on {side}, grant pg_read_all_data to {role}"))
        .collect();
    let named: Vec<String> = tables
        .iter()
        .take(NAMED)
        .map(|(table, sides)| format!("{table} ({})", list(sides)))
        .collect();
    let more = match tables.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    findings.refuse(format!(
        "{} of the tables may not be read: {}; or grant select on each and usage on its schema: \
         {}{more}",
        tables.len(),
        grants.join("; "),
        named.join(", ")
    ));
}

/// Refuses a database of base that may not have the sessions in which head reads so many foreign
/// tables, besides our own: one for each work item at a time. They log in as a role that is no
/// superuser and has no limit of its own.
///
/// # Errors
/// Refused.
pub(crate) async fn refuse_too_few_for_foreign(
    base: &Session,
    parallel: u16,
    tables: usize,
) -> Result<()> {
    let foreign = parallel.min(u16::try_from(tables).unwrap_or(u16::MAX));
    let needed = i32::from(parallel) + 1 + i32::from(foreign);
    let (database, limit): (String, i32) = base
        .query_one(
            r#"
        select datname::text, datconnlimit from pg_database where datname = current_database()
        "#,
            &[],
        )
        .await?;
    if (0..needed).contains(&limit) {
        return Err(Error::refused(format!(
            "database {database} on base has connection limit {limit}, and this recovery needs \
             {needed} sessions there, since head reads base's tables in sessions of its own: alter \
             database {database} connection limit {needed}, or lower --parallel"
        )));
    }
    Ok(())
}

/// Refuses a role or a database that may not have so many sessions at once.
async fn sessions(session: &Session, needed: i32, findings: &mut Findings) -> Result<()> {
    let (role, database, of_role, of_database): (String, String, i32, i32) = session
        .query_one(
            r#"
        select rolname::text, datname::text,
               case when rolsuper then -1 else rolconnlimit end,
               case when rolsuper then -1 else datconnlimit end
          from pg_roles, pg_database
         where rolname = current_user and datname = current_database()
        "#,
            &[],
        )
        .await?;
    let side = session.side();
    let (most, reserved): (i32, i32) = session
        .query_one(
            r#"
        select int4in(textout(current_setting('max_connections'))),
               int4in(textout(current_setting('superuser_reserved_connections')))
               + coalesce(int4in(textout(current_setting('reserved_connections', true))), 0)
        "#,
            &[],
        )
        .await?;
    if most - reserved < needed {
        findings.refuse(format!(
            "{side} takes {most} connections, {reserved} of them reserved, and this recovery needs \
             {needed} sessions there: raise max_connections (a restore on Azure has the default of \
             its size), or lower --parallel"
        ));
    }
    for (of, limit) in
        [(format!("role {role}"), of_role), (format!("database {database}"), of_database)]
    {
        if (0..needed).contains(&limit) {
            findings.refuse(format!(
                "{of} on {side} has connection limit {limit}, and this recovery needs {needed} \
                 sessions there: alter {of} connection limit {needed}, or lower --parallel"
            ));
        }
    }
    Ok(())
}
