//! Everything on a server that a refusal must leave as it was.

use std::collections::BTreeSet;
use std::time::Duration;

use deltacompare_testbed::Server;

use super::Gap;

/// What a database and its server hold, one line an object: schemas, roles and their memberships,
/// all of foreign data, extensions, relations with their files and rights, functions, types,
/// settings, comments, and how many rows were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(BTreeSet<String>);

impl Fingerprint {
    pub(crate) async fn of(server: &Server) -> Self {
        // A session counts what it wrote when it ends, a moment after its client has gone.
        for _ in 0..20 {
            let alone: bool = server
                .value(
                    "select count(*) = 1 from pg_stat_activity
                      where backend_type = 'client backend' and datname = current_database()",
                )
                .await
                .unwrap();
            if alone {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // PostgreSQL 14 shows counts that are up to half a second old.
        if server.value::<i32>("select current_setting('server_version_num')::int").await.unwrap()
            < 150_000
        {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        // Recoveries of other databases come and go on a shared server.
        let query = if server.is_shared() {
            QUERY
                .replace("pg_authid x", "pg_authid x where rolname !~ '^deltacompare_[0-9a-f]{12}$'")
                .replace(
                    "pg_auth_members x",
                    "pg_auth_members x where pg_get_userbyid(member) !~ '^deltacompare_[0-9a-f]{12}$'",
                )
                .replace("from pg_database)", "from pg_database where datname = current_database())")
                .replace(
                    "pg_db_role_setting x",
                    "pg_db_role_setting x where setdatabase in (0, (select oid from pg_database
                                                       where datname = current_database()))",
                )
                .replace(
                    "pg_shdescription x where objoid >= 16384",
                    "pg_shdescription x where objoid >= 16384 and not exists
                       (select from pg_roles r where r.oid = objoid
                           and rolname ~ '^deltacompare_[0-9a-f]{12}$')",
                )
                .replace("pg_replication_slots", "pg_replication_slots where database = current_database()")
        } else {
            QUERY.to_owned()
        };
        let lines: Vec<(String,)> = server.rows(query).await.unwrap();
        let lines: BTreeSet<String> = lines.into_iter().map(|(line,)| line).collect();
        assert!(lines.len() > 20, "a fingerprint of next to nothing: {lines:#?}");
        Self(lines)
    }

    /// Base's and head's.
    pub(crate) async fn of_both(gap: &Gap) -> (Self, Self) {
        (Self::of(&gap.base).await, Self::of(&gap.head).await)
    }

    /// Fails, naming what came and what went, unless `now` is the same.
    pub(crate) fn assert_same(&self, now: &Self, what: &str) {
        let gone: Vec<_> = self.0.difference(&now.0).collect();
        let new: Vec<_> = now.0.difference(&self.0).collect();
        assert!(gone.is_empty() && new.is_empty(), "{what}: gone {gone:#?}, new {new:#?}");
    }
}

const QUERY: &str = r#"
    select 'schema ' || x::text
      from (select oid, nspname, nspowner, nspacl from pg_namespace
             where nspname !~ '^pg_(toast_)?temp_') x
    union all select 'role ' || x::text from pg_authid x
    union all select 'membership ' || x::text from pg_auth_members x
    union all
    select 'database ' || x::text from (select datname, datdba, datacl from pg_database) x
    union all select 'wrapper ' || x::text from pg_foreign_data_wrapper x
    union all select 'foreign server ' || x::text from pg_foreign_server x
    union all select 'user mapping ' || x::text from pg_user_mapping x
    union all select 'extension ' || x::text from pg_extension x
    union all
    select 'relation ' || x::text
      from (select oid, relname, relnamespace, relowner, relkind, relfilenode, relacl,
                   relrowsecurity
              from pg_class where relpersistence <> 't') x
    union all
    select 'column ' || x::text
      from (select attrelid, attnum, attname, atttypid, attacl from pg_attribute
             where attrelid >= 16384) x
    union all select 'function ' || oid || proname from pg_proc where oid >= 16384
    union all select 'type ' || oid || typname from pg_type where oid >= 16384
    union all
    select 'written ' || x::text
      from (select schemaname, relname, n_tup_ins, n_tup_upd, n_tup_del
              from pg_stat_user_tables) x
    union all select 'setting ' || x::text from pg_db_role_setting x
    union all select 'default right ' || x::text from pg_default_acl x
    union all
    select 'comment ' || x::text
      from (select objoid, classoid, description from pg_description where objoid >= 16384) x
    union all select 'shared comment ' || x::text from pg_shdescription x where objoid >= 16384
    union all select concat('event trigger ', evtname, evtenabled) from pg_event_trigger
    union all select 'publication ' || pubname from pg_publication
    union all select 'subscription ' || subname || subenabled from pg_subscription
    union all select 'prepared transaction ' || gid from pg_prepared_xacts
    union all select 'slot ' || slot_name from pg_replication_slots
"#;
