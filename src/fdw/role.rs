//! The throw-away role on base.

use postgres_protocol::password::scram_sha_256;
use rand::RngExt;
use rand::distr::Alphanumeric;
use secrecy::{ExposeSecret, SecretString};

use super::{MARKER, RELATIONS_PER_TRANSACTION};
use crate::error::{Error, Result};
use crate::postgres::{Ident, Literal, QualifiedName, Session};

/// PostgreSQL manual, appendix A.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// 32 letters and digits (190 bits) from the operating system's generator, and one sign of each
/// class that password policies ask for.
pub(super) fn random_password() -> SecretString {
    let letters: String = rand::rng().sample_iter(&Alphanumeric).take(32).map(char::from).collect();
    SecretString::from(format!("{letters}aA1-"))
}

/// Creates the role. The server sees only the SCRAM verifier, so its log never shows the password.
/// It may log in for 30 days and read every table where this session's user may hand that on
/// (`pg_read_all_data`); otherwise [`grant`] it the tables one by one.
pub(super) async fn create(base: &Session, name: &Ident, password: &SecretString) -> Result<()> {
    let verifier = scram_sha_256(password.expose_secret().as_bytes());
    let until: String =
        base.query_one("select textin(timestamptz_out(now() + interval '30 days'))", &[]).await?;
    let bypass = if may_bypass_row_security(base).await? { "bypassrls" } else { "" };
    let comment = format!("{MARKER}; `deltacompare cleanup` drops it");
    // One transaction: a role without the comment would not be known as ours.
    base.batch_execute(&format!(
        "create role {name} login inherit {bypass} password {} valid until {}; \
         comment on role {name} is {}",
        Literal(&verifier),
        Literal(&until),
        Literal(&comment)
    ))
    .await
    .map_err(|error| {
        Error::refused(format!(
            "base does not let this role create a login role for head: {error}; give it CREATEROLE"
        ))
        .because(error)
    })?;
    if reads_all(base).await? {
        base.batch_execute(&format!("grant pg_read_all_data to {name}")).await?;
    }
    Ok(())
}

/// Whether the role can be made to bypass row security, as decoding a slot does.
pub(crate) async fn may_bypass_row_security(base: &Session) -> Result<bool> {
    base.query_one(
        r#"
        select rolsuper or (rolbypassrls and rolcreaterole
                            and int4in(textout(current_setting('server_version_num'))) >= 160000)
          from pg_roles where rolname = current_user
        "#,
        &[],
    )
    .await
}

/// Whether this session's user may grant `pg_read_all_data`. That is tried, in a transaction that rolls
/// back: who may is another matter in each version of PostgreSQL, and on Azure, whose administrators are
/// no superusers.
pub(super) async fn reads_all(base: &Session) -> Result<bool> {
    let superuser: bool =
        base.query_one("select rolsuper from pg_roles where rolname = current_user", &[]).await?;
    if superuser {
        return Ok(true);
    }
    base.batch_execute("begin").await?;
    let tried = base.batch_execute("grant pg_read_all_data to current_user").await;
    base.batch_execute("rollback").await?;
    match tried {
        Ok(()) => Ok(true),
        Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether [`grant`] will work: what may not be handed on PostgreSQL only warns of.
pub(super) async fn check_grants(base: &Session, relations: &[QualifiedName]) -> Result<()> {
    if reads_all(base).await? {
        return Ok(());
    }
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        relations.iter().map(|relation| (relation.schema.name(), relation.name.name())).unzip();
    let not_ours_to_grant: Vec<String> = base
        .query(
            r#"
            select format('%I.%I', n.nspname, c.relname)
              from unnest($1::text[], $2::text[]) as wanted (schema, name)
              join pg_namespace n on n.nspname = wanted.schema
              join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
             where not (has_schema_privilege(n.oid, 'usage with grant option')
                        or has_schema_privilege('public', n.oid, 'usage'))
                or not (has_table_privilege(c.oid, 'select with grant option')
                        or has_table_privilege('public', c.oid, 'select'))
             order by 1
            "#,
            &[&schemas, &names],
        )
        .await?;
    if not_ours_to_grant.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "base does not let this role hand on the right to read {}: grant it pg_read_all_data with \
         admin option, or select on the tables and usage on their schemas with grant option",
        not_ours_to_grant.join(", ")
    )))
}

/// Lets the role read these relations, unless it may read everything anyway.
pub(super) async fn grant(base: &Session, name: &Ident, relations: &[QualifiedName]) -> Result<()> {
    if reads_all(base).await? {
        return Ok(());
    }
    let grant = |relation: &QualifiedName| {
        let schema = &relation.schema;
        format!("grant usage on schema {schema} to {name}; grant select on {relation} to {name}")
    };
    for batch in relations.chunks(RELATIONS_PER_TRANSACTION) {
        let grants: Vec<String> = batch.iter().map(grant).collect();
        if base.batch_execute(&grants.join("; ")).await.is_ok() {
            continue;
        }
        // Which of them is not to be had?
        for relation in batch {
            base.batch_execute(&grant(relation)).await.map_err(|error| {
                Error::refused(format!(
                    "base does not let this role hand on the right to read {relation}: {error}; \
                 grant it pg_read_all_data with admin option"
                ))
                .because(error)
            })?;
        }
    }
    Ok(())
}

/// The roles that recoveries created on base, by name and comment.
pub(super) async fn ours(base: &Session) -> Result<Vec<String>> {
    base.query(
        r#"
        select rolname::text from pg_roles
         where rolname ~ '^deltacompare_[0-9a-f]{12}$'
           and shobj_description(oid, 'pg_authid') like $1 || '%'
        "#,
        &[&MARKER],
    )
    .await
}

/// Drops the role with what was granted to it. Does nothing if it is not there.
pub(super) async fn drop(base: &Session, name: &Ident) -> Result<bool> {
    if !ours(base).await?.iter().any(|ours| ours == name.name()) {
        return Ok(false);
    }
    // `drop owned` would need membership in the role, which its creator need not have.
    let grants: Vec<(String, String, String)> = base
        .query(
            r#"
            select 'table', n.nspname::text, c.relname::text
              from pg_class c
              join pg_namespace n on n.oid = c.relnamespace
             cross join aclexplode(c.relacl) acl
              join pg_roles r on r.oid = acl.grantee
             where r.rolname = $1
            union
            select 'schema', n.nspname::text, ''
              from pg_namespace n
             cross join aclexplode(n.nspacl) acl
              join pg_roles r on r.oid = acl.grantee
             where r.rolname = $1
            "#,
            &[&name.name()],
        )
        .await?;
    let revokes: Vec<String> = grants
        .into_iter()
        .map(|(kind, schema, table)| {
            let object = match kind.as_str() {
                "schema" => format!("schema {}", Ident::new(schema)),
                _ => format!("table {}", QualifiedName::new(schema, table)),
            };
            format!("revoke all on {object} from {name}")
        })
        .collect();
    for batch in revokes.chunks(RELATIONS_PER_TRANSACTION) {
        base.batch_execute(&batch.join("; ")).await?;
    }
    base.batch_execute(&format!("drop role {name}")).await?;
    Ok(true)
}
