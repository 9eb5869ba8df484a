//! What a recovery needs of the server.

use super::server::Facts;
use crate::model::{AssessedDatabase, Requirement};

/// The major versions that are known.
const MAJORS: std::ops::RangeInclusive<i32> = 14..=18;

fn requirement(met: bool, what: impl Into<String>, next: impl Into<String>) -> Requirement {
    Requirement { what: what.into(), met, next: next.into() }
}

/// Those of the server as a whole.
pub(super) fn of(facts: &Facts) -> Vec<Requirement> {
    let role = &facts.role;
    let allowed = facts.allowed_extensions.as_deref().is_none_or(|list| {
        list.split(',').any(|name| name.trim().eq_ignore_ascii_case("postgres_fdw"))
    });
    vec![
        requirement(
            MAJORS.contains(&(facts.version_number / 10_000)),
            "PostgreSQL 14 to 18",
            "of another version contents are compared with --accept unknown-version",
        ),
        requirement(
            facts.wal_level == "logical",
            "wal_level is logical",
            "alter system set wal_level = logical, then restart",
        ),
        requirement(
            facts.free_slots > 0,
            "a slot is free for the new one",
            "drop the slot that is lost, or raise max_replication_slots and restart",
        ),
        requirement(
            facts.may_replicate,
            format!("{role} has REPLICATION: it creates the slot and reads timeline histories"),
            format!("alter role {role} replication"),
        ),
        requirement(
            facts.may_create_roles,
            format!("{role} has CREATEROLE: head reads some tables of base by a throw-away role"),
            format!("alter role {role} createrole"),
        ),
        requirement(
            facts.track_counts,
            "track_counts is on: writes to the copies can be seen",
            "alter system set track_counts = on, then reload",
        ),
        requirement(
            facts.has_postgres_fdw && allowed,
            "postgres_fdw is there to be created",
            if allowed {
                "install PostgreSQL's contrib package"
            } else {
                "add POSTGRES_FDW to the server parameter azure.extensions (prepare.bicep does so \
                 on the copies)"
            },
        ),
    ]
}

/// Those of the databases.
pub(super) fn of_databases(facts: &Facts, databases: &[AssessedDatabase]) -> Vec<Requirement> {
    let published = |database: &&AssessedDatabase| !database.publications.is_empty();
    let mut found: Vec<Requirement> = databases
        .iter()
        .filter(published)
        .map(|database| {
            requirement(
                database.unreadable == 0,
                format!(
                    "{} may read the {} published tables of {}",
                    facts.role, database.tables, database.name
                ),
                format!("grant pg_read_all_data to {}", facts.role),
            )
        })
        .collect();
    if !databases.iter().any(|database| published(&database)) {
        found.push(requirement(
            false,
            "a database has a publication",
            "name tables with --table: nothing is published here",
        ));
    }
    found
}
