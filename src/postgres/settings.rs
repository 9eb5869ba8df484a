//! Settings that are the same in every session.

use super::Literal;

/// The names of our sessions in `pg_stat_activity`, besides those of work items, which have the name
/// of their recovery's objects.
pub(crate) const APPLICATION_NAMES: [&str; 14] = [
    "deltacompare account",
    "deltacompare assess",
    "deltacompare clean-up",
    "deltacompare cleanup",
    "deltacompare coordinator",
    "deltacompare health",
    "deltacompare history",
    "deltacompare last look",
    "deltacompare plan",
    "deltacompare preflight",
    "deltacompare record",
    "deltacompare set-up",
    "deltacompare status",
    "deltacompare verify",
];

/// Settings pinned in every session on either server, whatever a database or a role sets for its
/// applications' sake. A test compares the list with what each supported major has: see
/// `tests/behaviour/session_settings.rs`, which says of every other setting why it may differ.
///
/// Sessions that postgres_fdw opens have them too; see [`crate::fdw::Link`].
pub const SESSION_SETTINGS: [(&str, &str); 41] = [
    // How names and literals are read.
    ("search_path", "pg_catalog"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("xmloption", "content"),
    // How values are printed: equal rows must have equal images.
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("intervalstyle", "postgres"),
    ("datestyle", "ISO,MDY"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("quote_all_identifiers", "off"),
    // Which rows are found. Row security raises an error instead of hiding rows.
    ("row_security", "off"),
    ("gin_fuzzy_search_limit", "0"),
    // How queries are planned: the strategies switch some methods off for a transaction, and count
    // on the others.
    ("enable_async_append", "on"),
    ("enable_bitmapscan", "on"),
    ("enable_hashagg", "on"),
    ("enable_hashjoin", "on"),
    ("enable_indexonlyscan", "on"),
    ("enable_indexscan", "on"),
    ("enable_material", "on"),
    ("enable_mergejoin", "on"),
    ("enable_nestloop", "on"),
    ("enable_partition_pruning", "on"),
    ("enable_seqscan", "on"),
    ("enable_sort", "on"),
    ("enable_tidscan", "on"),
    ("plan_cache_mode", "auto"),
    // JIT is slow to start and never worth it here.
    ("jit", "off"),
    // What a session waits for. Locks of forgotten transactions are not waited for, and no standby
    // is: a restore may have inherited the names of production's.
    ("lock_timeout", "10s"),
    ("synchronous_commit", "local"),
    // What ends a session. One whose client has died ends within seconds.
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("client_connection_check_interval", "5s"),
    ("exit_on_error", "off"),
    // What may be written, and where.
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_tablespace", ""),
    ("default_table_access_method", "heap"),
    // Sessions of a recovery are found by their name; this setting would give those of postgres_fdw
    // another one.
    ("postgres_fdw.application_name", ""),
];

/// The same for settings that only newer servers know, each with the versions (`server_version_num`)
/// that brought it: a minor release, to later ones of its major; a first one (17.0), to all that
/// follow.
pub const LATER_SESSION_SETTINGS: [(&str, &str, &[u32]); 2] = [
    ("transaction_timeout", "0", &[170_000]),
    ("restrict_nonsystem_relation_kind", "", &[140_013, 150_008, 160_004, 170_000]),
];

/// Whether a server of this version has what these versions brought.
fn has(server_version: u32, brought_by: &[u32]) -> bool {
    brought_by.iter().any(|&since| {
        let same_major = server_version / 10_000 == since / 10_000;
        server_version >= since && (same_major || since % 10_000 == 0)
    })
}

/// The settings of a session on a server of this version (`server_version_num`, 0 if unknown) as the
/// start-up parameter `options` has them: split at spaces, those in values escaped.
pub(crate) fn session_options(server_version: u32) -> String {
    let later = LATER_SESSION_SETTINGS
        .iter()
        .filter(|(_, _, brought_by)| has(server_version, brought_by))
        .map(|(name, value, _)| (*name, *value));
    let settings: Vec<String> = SESSION_SETTINGS
        .into_iter()
        .chain(later)
        .map(|(name, value)| format!("-c {name}={}", value.replace(' ', "\\ ")))
        .collect();
    settings.join(" ")
}

/// Pins [`LATER_SESSION_SETTINGS`] where the server has them (minor releases brought some of them to
/// older majors), and yields the names of the other pinned settings that are not in force, null if all
/// are. One text, without parameters, so that it can go by the simple protocol: a pooler may lose a
/// prepared statement, even one without a name.
pub(super) fn pin_and_find_lacking() -> String {
    let values = |settings: &mut dyn Iterator<Item = (&str, &str)>| {
        settings
            .map(|(name, value)| format!("({}, {})", Literal(name), Literal(value)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    // Lists and units are printed with spaces or not.
    format!(
        r#"
        select pg_catalog.string_agg(p.name, ', ')
          from (values {pinned}) as p (name, value)
         where pg_catalog.lower(
                 pg_catalog.replace(pg_catalog.current_setting(p.name, true), ' ', ''))
               is distinct from pg_catalog.lower(pg_catalog.replace(p.value, ' ', ''));
        select pg_catalog.set_config(s.name, s.value, false)
          from (values {later}) as s (name, value)
         where pg_catalog.current_setting(s.name, true) is not null
        "#,
        pinned = values(&mut SESSION_SETTINGS.into_iter()),
        later = values(&mut LATER_SESSION_SETTINGS.iter().map(|(name, value, _)| (*name, *value))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_given_to_servers_that_know_it() {
        let given = |version| {
            let options = session_options(version);
            ["transaction_timeout", "restrict_nonsystem"].map(|name| options.contains(name))
        };
        for (version, expected) in [
            (0, [false, false]),
            (140_012, [false, false]),
            (140_013, [false, true]),
            (150_007, [false, false]),
            (150_008, [false, true]),
            (160_003, [false, false]),
            (160_012, [false, true]),
            (170_000, [true, true]),
            (180_001, [true, true]),
        ] {
            assert_eq!(given(version), expected, "{version}");
        }
    }
}
