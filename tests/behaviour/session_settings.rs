//! What a database or a role sets for its applications' sake changes nothing that we read or write.

use std::collections::BTreeSet;

use deltacompare::postgres::{LATER_SESSION_SETTINGS, SESSION_SETTINGS, Server, Side};
use deltacompare_testbed::Role;

use crate::support::{Gap, assert_events_turn_base_into_head, deltacompare};

/// Every other setting that a session, a role or a database may have, of any supported major, with
/// why it need not be pinned. A new major's that is in neither list fails the test: look whether it
/// changes how something is read, printed, compared, planned, waited for or written, and pin it
/// (`SESSION_SETTINGS`) or add it here.
const REVIEWED: [(&str, &str); 16] = [
    (
        "Only what is logged, counted, traced or shown.",
        "application_name backtrace_functions client_min_messages compute_query_id \
         debug_pretty_print debug_print_parse debug_print_plan debug_print_rewritten \
         escape_string_warning jit_debugging_support jit_dump_bitcode jit_profiling_support \
         log_connections log_disconnections log_duration log_error_verbosity log_executor_stats \
         log_lock_failures log_lock_waits log_min_duration_sample log_min_duration_statement \
         log_min_error_statement log_min_messages log_parameter_max_length \
         log_parameter_max_length_on_error log_parser_stats log_planner_stats \
         log_replication_commands log_statement log_statement_sample_rate log_statement_stats \
         log_temp_files log_transaction_sample_rate md5_password_warnings trace_notify trace_sort \
         track_cost_delay_timing track_functions track_io_timing track_wal_io_timing \
         update_process_title",
    ),
    ("The texts of messages: our program looks at their codes.", "lc_messages"),
    ("Only what to_char() and to_number() do, which we do not use.", "lc_numeric lc_time"),
    (
        "Only how the text of a time zone's abbreviation is read; the output functions print offsets.",
        "timezone_abbreviations",
    ),
    (
        "Only functions that we do not use: to_tsvector() and those that make XML.",
        "default_text_search_config xmlbinary",
    ),
    ("Only \\' in a literal, which ours never have.", "backslash_quote"),
    ("Set by each driver, and by postgres_fdw, when it logs in.", "client_encoding"),
    (
        "Costs and limits of the planner: the plans that matter are enforced, whatever they cost, \
         and no result depends on them.",
        "constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost \
         cursor_tuple_fraction default_statistics_target effective_cache_size \
         enable_distinct_reordering enable_gathermerge enable_group_by_reordering \
         enable_incremental_sort enable_memoize enable_parallel_append enable_parallel_hash \
         enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate \
         enable_self_join_elimination from_collapse_limit geqo geqo_effort geqo_generations \
         geqo_pool_size geqo_seed geqo_selection_bias geqo_threshold join_collapse_limit \
         random_page_cost recursive_worktable_factor seq_page_cost",
    ),
    (
        "Parallel workers, which give the same result.",
        "debug_parallel_query force_parallel_mode max_parallel_maintenance_workers \
         max_parallel_workers max_parallel_workers_per_gather min_parallel_index_scan_size \
         min_parallel_table_scan_size parallel_leader_participation parallel_setup_cost \
         parallel_tuple_cost",
    ),
    (
        "Details of JIT, which is off.",
        "jit_above_cost jit_expressions jit_inline_above_cost jit_optimize_above_cost \
      jit_tuple_deforming",
    ),
    ("Where a scan of a table begins: no order is taken for granted.", "synchronize_seqscans"),
    (
        "Memory, files and the speed of reading and writing.",
        "backend_flush_after commit_delay commit_siblings effective_io_concurrency file_copy_method \
         gin_pending_list_limit hash_mem_multiplier io_combine_limit logical_decoding_work_mem \
         maintenance_io_concurrency maintenance_work_mem max_stack_depth temp_buffers \
         temp_file_limit temp_tablespaces wal_compression wal_init_zero wal_recycle \
         wal_skip_threshold work_mem",
    ),
    (
        "Time-outs and keep-alives of connections.",
        "deadlock_timeout post_auth_delay tcp_keepalives_count tcp_keepalives_idle \
         tcp_keepalives_interval tcp_user_timeout wal_sender_timeout",
    ),
    (
        "What we do not do: vacuum, analyze, functions, collations, large objects, passwords in \
         clear, extensions' files, compression of columns.",
        "check_function_bodies createrole_self_grant default_toast_compression dynamic_library_path \
         extension_control_path extension_destdir icu_validation_level lo_compat_privileges \
         password_encryption scram_iterations vacuum_buffer_usage_limit vacuum_cost_delay \
         vacuum_cost_limit vacuum_cost_page_dirty vacuum_cost_page_hit vacuum_cost_page_miss \
         vacuum_failsafe_age vacuum_freeze_min_age vacuum_freeze_table_age \
         vacuum_max_eager_freeze_failure_rate vacuum_multixact_failsafe_age \
         vacuum_multixact_freeze_min_age vacuum_multixact_freeze_table_age vacuum_truncate",
    ),
    (
        "Of one transaction, or of transactions of a kind that we do not use; statistics of a \
         transaction, of which each look is a transaction of its own.",
        "default_transaction_deferrable stats_fetch_consistency transaction_deferrable \
         transaction_isolation transaction_read_only",
    ),
    (
        "Only a superuser, or who starts the session, can change them; preflight looks at \
         track_counts.",
        "allow_in_place_tablespaces allow_system_table_mods debug_discard_caches \
         debug_logical_replication_streaming event_triggers ignore_checksum_failure \
         ignore_system_indexes local_preload_libraries session_preload_libraries \
         session_replication_role track_activities track_counts wal_consistency_checking \
         zero_damaged_pages",
    ),
];

/// What applications' settings are here: each would change a result, end a session or stop a write.
const HOSTILE: [(&str, &str); 41] = [
    ("search_path", "public"),
    ("standard_conforming_strings", "off"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("xmloption", "document"),
    ("timezone", "Asia/Kathmandu"),
    ("extra_float_digits", "0"),
    ("intervalstyle", "iso_8601"),
    ("datestyle", "German"),
    ("bytea_output", "escape"),
    ("lc_monetary", "POSIX"),
    ("quote_all_identifiers", "on"),
    ("row_security", "on"),
    ("gin_fuzzy_search_limit", "1"),
    ("enable_async_append", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashagg", "off"),
    ("enable_hashjoin", "off"),
    ("enable_indexonlyscan", "off"),
    ("enable_indexscan", "off"),
    ("enable_material", "off"),
    ("enable_mergejoin", "off"),
    ("enable_nestloop", "off"),
    ("enable_partition_pruning", "off"),
    ("enable_seqscan", "off"),
    ("enable_sort", "off"),
    ("enable_tidscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "on"),
    ("lock_timeout", "1ms"),
    ("synchronous_commit", "remote_apply"),
    ("statement_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
    ("idle_session_timeout", "1ms"),
    ("client_connection_check_interval", "0"),
    ("exit_on_error", "on"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    // No table can be created there, and by a method that there is not.
    ("default_tablespace", "pg_global"),
    ("default_table_access_method", "nosuch"),
    ("postgres_fdw.application_name", "another"),
];

/// Those of [`HOSTILE`] that the sessions of the test itself can have: of all roles in the database,
/// and so of the one with which head logs in to base.
const OF_ALL_ROLES: [&str; 12] = [
    "array_nulls",
    "transform_null_equals",
    "xmloption",
    "timezone",
    "extra_float_digits",
    "intervalstyle",
    "datestyle",
    "bytea_output",
    "enable_tidscan",
    "enable_indexscan",
    "gin_fuzzy_search_limit",
    "postgres_fdw.application_name",
];

const TABLES: [&str; 4] = ["keys", "printed", "filtered", "keyless"];

fn before(filters: bool) -> String {
    let mut sql = r#"
        create table keys (k text[] primary key, v int);
        insert into keys values ('{a,NULL}', 1), ('{a,"NULL"}', 2), ('{NULL}', 3), ('{b}', 4);
        insert into keys select array['k', i::text], i from generate_series(1, 500) i;
        create table printed (id int primary key, t timestamptz, i interval, f float8, b bytea, x xml,
                              d date, m money, n text[]);
        insert into printed
          select i, '2026-01-01 10:00Z'::timestamptz + i * interval '1 hour', i * interval '1 hour',
                 i / 3.0, ('\x00ff' || lpad(to_hex(i), 8, '0'))::bytea, '<a/><b/>'::xml,
                 '2026-01-02'::date + i, i, array[null, 'NULL']
            from generate_series(1, 300) i;
        create table filtered (id int primary key, tag int, v text);
        -- Updates and deletes may be filtered by what the stream has of old rows.
        alter table filtered replica identity full;
        insert into filtered select i, i % 2, 'v' from generate_series(1, 400) i;
        create table keyless (a text, b timestamptz);
        alter table keyless replica identity full;
        insert into keyless select 'a' || i, '2026-01-01 10:00Z'::timestamptz + i * interval '1 s'
          from generate_series(1, 300) i;
    "#
    .to_owned();
    let filter = if filters { "where (tag = 1)" } else { "" };
    sql += &format!(
        "create publication settings for table keys, printed, filtered {filter}, keyless;"
    );
    let set = |of: &str, (name, value): (&str, &str)| {
        format!("execute format('alter {of} set {name} = ''{value}''', current_database());\n")
    };
    sql += "do $$ begin\n";
    for setting in HOSTILE {
        if OF_ALL_ROLES.contains(&setting.0) {
            sql += &set("database %I", setting);
        }
        sql += &set("role azure_admin in database %I", setting);
    }
    for (name, value) in
        [("transaction_timeout", "2s"), ("restrict_nonsystem_relation_kind", "view,foreign-table")]
    {
        sql += &format!("if current_setting('{name}', true) is not null then\n");
        sql += &set("role azure_admin in database %I", (name, value));
        if name == "restrict_nonsystem_relation_kind" {
            // Of the throw-away role that head logs in as, too.
            sql += &set("database %I", (name, value));
        }
        sql += "end if;\n";
    }
    // The extension's own setting is not read from a session that has not loaded it.
    sql + "end $$;"
}

const DURING: &str = r#"
    set array_nulls = on; set xmloption = content; set bytea_output = hex;
    update keys set v = -v where k in (array['a', null], array['k', '7']);
    delete from keys where k = array[null]::text[];
    insert into keys values (array['c', null], 5);
    update printed set t = t + interval '1 minute' where id = 10;
    update printed set i = i + interval '1 second' where id = 11;
    update printed set f = f + 1e-14 where id = 12;
    update printed set b = '\x00fe' where id = 13;
    update printed set n = array['NULL', null] where id = 14;
    update filtered set v = 'w' where id in (1, 2, 3, 4);
    delete from filtered where id in (101, 102);
    delete from keyless where a = 'a7';
    insert into keyless values ('a8', '2026-01-01 10:00:08Z');
"#;

/// With each strategy; and one session's settings are looked at, one by one.
async fn settings_of_a_database_or_a_role_change_nothing() {
    let major = deltacompare_testbed::Postgres::find(None).unwrap().major();
    let gap = Gap::between(&before(major >= 15), DURING).await;
    // `full` is what verifies the first.
    for (strategy, verify) in [("auto", "full"), ("content", "none")] {
        let run = deltacompare(
            &gap,
            &[
                "run",
                "--publication",
                "settings",
                "--sink",
                "ndjson:{dir}/events",
                "--sink",
                "delta-table",
                "--format",
                "landing",
                "--report",
                "{dir}/report",
                "--verify",
                verify,
                "--strategy",
                strategy,
            ],
        )
        .run()
        .await;
        run.assert_completed();
        let events = run.events("events");
        let counts = TABLES.map(|table| run.counts("report", &format!("public.{table}")));
        let filtered = if major >= 15 { (0, 2, 1) } else { (0, 4, 2) };
        assert_eq!(counts, [(1, 2, 1), (0, 5, 0), filtered, (1, 0, 1)], "{strategy}");
        assert_events_turn_base_into_head(&gap, &["keys", "printed", "keyless"], &events).await;
    }
    for (side, server) in [(Side::Base, &gap.base), (Side::Head, &gap.head)] {
        let ours = Server::parse(side, &server.url(Role::Admin), None).unwrap();
        let session = ours.connect("deltacompare verify").await.unwrap();
        let later = LATER_SESSION_SETTINGS.iter().map(|(name, value, _)| (*name, *value));
        for (name, value) in SESSION_SETTINGS.into_iter().chain(later) {
            let found: Option<String> =
                session.query_one("select current_setting($1, true)", &[&name]).await.unwrap();
            let expected = match name {
                "datestyle" => "ISO, MDY",
                value_of_its_own => {
                    assert_ne!(value_of_its_own, "");
                    value
                }
            };
            match found {
                Some(found) => assert_eq!(found, expected, "{name} on {side}"),
                None => assert!(later_one(name), "{name} on {side}"),
            }
        }
    }
    every_setting_was_looked_at(&gap).await;
}

fn later_one(name: &str) -> bool {
    LATER_SESSION_SETTINGS.iter().any(|(later, ..)| *later == name)
}

async fn every_setting_was_looked_at(gap: &Gap) {
    let reviewed: Vec<&str> =
        REVIEWED.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    let pinned = SESSION_SETTINGS.iter().map(|(name, _)| *name);
    let pinned: Vec<&str> =
        pinned.chain(LATER_SESSION_SETTINGS.iter().map(|(name, ..)| *name)).collect();
    let known: BTreeSet<&str> = reviewed.iter().chain(&pinned).copied().collect();
    assert_eq!(known.len(), reviewed.len() + pinned.len(), "a setting is in two lists");
    let settings: Vec<(String,)> = gap
        .head
        .rows(
            "select lower(name) from pg_settings
              where context in ('user', 'superuser', 'backend', 'superuser-backend')
                and name not like '%.%'",
        )
        .await
        .unwrap();
    assert!(settings.len() > 150, "{settings:?}");
    let unknown: Vec<&String> =
        settings.iter().map(|(name,)| name).filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "settings that nobody looked at: {unknown:?}");
    let hostile: BTreeSet<&str> = HOSTILE.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = SESSION_SETTINGS.iter().map(|(name, _)| *name).collect();
    assert_eq!(hostile, all, "a pinned setting that this test does not try");
}

tests! {
    settings_of_a_database_or_a_role_change_nothing: majors,
}
