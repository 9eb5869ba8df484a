//! A restore that is no longer what it was when it was made: what a record shows to have changed is
//! refused by name, and without a record nothing is called proven.

use deltacompare_testbed::Options;
use serde_json::Value;

use crate::support::{
    Gap, Run, assert_events_turn_base_into_head, deltacompare, hold_the_sink, until,
    waiting_for_the_sink,
};

/// What is done to a table of a restore after it was recorded, and what the refusal says of it.
struct Alteration {
    table: &'static str,
    side: &'static str,
    statements: &'static str,
    says: &'static str,
}

const ALTERATIONS: &[Alteration] = &[
    Alteration {
        table: "truncated",
        side: "head",
        statements: "truncate truncated",
        says: "public.truncated has another file",
    },
    Alteration {
        table: "truncated_on_base",
        side: "base",
        statements: "truncate truncated_on_base",
        says: "public.truncated_on_base has another file",
    },
    Alteration {
        table: "rewritten",
        side: "head",
        statements: "vacuum full rewritten",
        says: "public.rewritten has another file",
    },
    Alteration {
        table: "column_dropped",
        side: "base",
        statements: "alter table column_dropped drop column v",
        says: "public.column_dropped has another definition",
    },
    Alteration {
        table: "column_added",
        side: "head",
        statements: "alter table column_added add column w int default 7",
        says: "public.column_added has another definition",
    },
    Alteration {
        table: "columns_swapped",
        side: "head",
        statements:
            "alter table columns_swapped rename v to x; alter table columns_swapped rename w to v;
                     alter table columns_swapped rename x to w",
        says: "public.columns_swapped has another definition",
    },
    Alteration {
        table: "dropped",
        side: "base",
        statements: "drop table dropped",
        says: "public.dropped is gone",
    },
    Alteration {
        table: "dropped_on_head",
        side: "head",
        statements: "drop table dropped_on_head",
        says: "public.dropped_on_head is gone",
    },
    Alteration {
        table: "made_anew",
        side: "base",
        statements: "drop table made_anew; create table made_anew (id int primary key, v text)",
        says: "public.made_anew is gone",
    },
    Alteration {
        table: "made_later",
        side: "head",
        statements: "create table made_later (id int primary key)",
        says: "public.made_later is new",
    },
    Alteration {
        table: "renamed",
        side: "base",
        statements: "alter table renamed rename to renamed_since",
        says: "public.renamed has another definition",
    },
    Alteration {
        table: "moved",
        side: "head",
        statements: "alter table moved set schema elsewhere",
        says: "public.moved has another definition",
    },
    Alteration {
        table: "enum_label",
        side: "head",
        statements: "alter type hue rename value 'red' to 'rouge'",
        says: "public.enum_label has another definition",
    },
    Alteration {
        table: "domain_array",
        side: "base",
        statements: "alter type pair rename attribute a to z",
        says: "public.domain_array has another definition",
    },
    Alteration {
        table: "replica_identity",
        side: "head",
        statements: "alter table replica_identity replica identity full",
        says: "public.replica_identity has another definition",
    },
    Alteration {
        table: "keyless_since",
        side: "base",
        statements: "alter table keyless_since drop constraint keyless_since_pkey",
        says: "public.keyless_since has another definition",
    },
    Alteration {
        table: "unlogged_since",
        side: "head",
        statements: "alter publication p drop table unlogged_since;
                     alter table unlogged_since set unlogged",
        says: "public.unlogged_since has another",
    },
    Alteration {
        table: "leaf_dropped",
        side: "head",
        statements: "drop table leaf_dropped_1",
        says: "public.leaf_dropped_1 is gone",
    },
    Alteration {
        table: "leaf_detached",
        side: "base",
        statements: "alter table leaf_detached detach partition leaf_detached_1",
        says: "public.leaf_detached_1 has another definition",
    },
    Alteration {
        table: "leaf_truncated",
        side: "head",
        statements: "truncate leaf_truncated_1",
        says: "public.leaf_truncated_1 has another file",
    },
    Alteration {
        table: "bound",
        side: "base",
        statements: "create table bound_2 partition of bound for values from (1000) to (2000)",
        says: "public.bound_2 is new",
    },
    Alteration {
        table: "disinherited",
        side: "head",
        statements: "alter table disinherited_child no inherit disinherited",
        says: "public.disinherited_child has another definition",
    },
    Alteration {
        table: "names_roles",
        side: "head",
        statements: "alter role clerk rename to clerk_since",
        says: "public.names_roles has another definition",
    },
    Alteration {
        table: "names_tables",
        side: "base",
        statements: "alter table named_by_others rename to renamed_by_others",
        says: "public.names_tables has another definition",
    },
    Alteration {
        table: "information_schema.mine",
        side: "head",
        statements: "truncate information_schema.mine",
        says: "information_schema.mine has another file",
    },
];

/// Tables of partitions, and one that another inherits from; all others are plain.
const SHAPED: &str = r#"
    create schema elsewhere;
    create type hue as enum ('red', 'green');
    create type pair as (a int, b text);
    create domain pairs as pair[];
    create table columns_swapped (id int primary key, v text, w text);
    create table enum_label (id int primary key, v text, hue hue default 'red');
    create table domain_array (id int primary key, v text, pairs pairs);
    create role clerk;
    create type clerks as (one regrole);
    create table names_roles (id int primary key, v text, roles clerks[] default '{(clerk)}');
    create table named_by_others (id int);
    create table names_tables (id int primary key, v text, r regclass default 'named_by_others');
    create table leaf_dropped (id int primary key, v text) partition by range (id);
    create table leaf_dropped_1 partition of leaf_dropped for values from (0) to (1000);
    create table leaf_dropped_2 partition of leaf_dropped for values from (1000) to (2000);
    create table leaf_detached (id int primary key, v text) partition by range (id);
    create table leaf_detached_1 partition of leaf_detached for values from (0) to (1000);
    create table leaf_truncated (id int primary key, v text) partition by range (id);
    create table leaf_truncated_1 partition of leaf_truncated for values from (0) to (1000);
    create table bound (id int primary key, v text) partition by range (id);
    create table bound_1 partition of bound for values from (0) to (1000);
    create table disinherited (id int primary key, v text);
    create table disinherited_child (primary key (id)) inherits (disinherited);
"#;

/// What an administrator may do to a restore without changing any row or its meaning.
const HARMLESS: &str = r#"
    analyze;
    vacuum kept;
    vacuum (freeze) kept;
    reindex table kept;
    create index on kept (v);
    grant select on kept to public;
    comment on table kept is 'still the same';
    alter table kept alter column v set statistics 7;
    alter table kept set (autovacuum_enabled = off);
    create table scratch (id int);
    insert into scratch values (1);
    create sequence numbers;
    select nextval('numbers');
    alter database shop set work_mem = '5MB';
"#;

/// 200 rows a table, of which five are updated in the gap.
async fn altered_later() -> Gap {
    let plain = |table: &str| {
        format!(
            "create table if not exists {table} (id int primary key, v text);
             insert into {table} (id, v) select i, 'a' from generate_series(1, 200) i;"
        )
    };
    let tables: Vec<&str> = ALTERATIONS
        .iter()
        .map(|alteration| alteration.table)
        .filter(|table| *table != "made_later")
        .chain(["kept"])
        .collect();
    let before: String = tables.iter().map(|table| plain(table)).collect();
    // Not all tables, so that a new one of an operator's own is not published.
    let names = tables.join(", ");
    let during: String =
        tables.iter().map(|table| format!("update {table} set v = 'b' where id <= 5;")).collect();
    Gap::own(
        Options::default(),
        &format!("{SHAPED} {before} create publication p for table {names}; create publication q"),
        &during,
    )
    .await
}

async fn record(gap: &Gap) -> (Run, String) {
    let run = deltacompare(gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    run.assert_completed();
    let file = run.file("recorded.json").display().to_string();
    (run, file)
}

async fn plan(gap: &Gap, arguments: &[&str]) -> Run {
    let mut all = vec!["plan", "--json"];
    all.extend(arguments);
    deltacompare(gap, &all).run().await
}

fn planned(run: &Run) -> Value {
    run.assert_completed();
    serde_json::from_str(&run.stdout).unwrap()
}

/// The positions between which these restores leave no gap: where they end.
async fn ends(gap: &Gap) -> (String, String) {
    let plan = planned(&plan(gap, &[]).await);
    let end = |at: usize| plan["ends"][at].as_str().unwrap().to_owned();
    (end(0), end(1))
}

async fn run_sql(gap: &Gap, side: &str, statements: &str) {
    let server = if side == "base" { &gap.base } else { &gap.head };
    for statement in statements.split(';').filter(|it| !it.trim().is_empty()) {
        let statement =
            statement.replace("database shop", &format!("database {:?}", server.database()));
        server.sql(statement.as_str()).await.unwrap();
    }
}

async fn what_was_altered_since_it_was_recorded_is_refused_by_name() {
    let gap = altered_later().await;
    let (lost_at, new_slot) = ends(&gap).await;
    let (_recorded, file) = record(&gap).await;
    for side in ["base", "head"] {
        run_sql(&gap, side, HARMLESS).await;
    }
    let positions = ["--recorded", &file, "--lost-at-lsn", &lost_at, "--new-slot-lsn", &new_slot];
    let with = |more: &[&'static str]| {
        positions.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>()
    };
    let unaltered = planned(&plan(&gap, &with(&[])).await);
    assert_eq!(unaltered["gap"]["verdict"], "proven", "{unaltered:#}");

    for alteration in ALTERATIONS {
        run_sql(&gap, alteration.side, alteration.statements).await;
    }
    // The publications last: one that is altered changes what is compared.
    run_sql(
        &gap,
        "head",
        "alter publication p add table made_later;
                           alter publication p set (publish = 'insert, update, delete')",
    )
    .await;
    run_sql(&gap, "base", "drop publication q").await;
    let refused = plan(&gap, &with(&[])).await;
    assert_eq!(refused.code, Some(2), "{}{}", refused.stdout, refused.stderr);
    for Alteration { side, says, .. } in ALTERATIONS {
        let said = refused.stderr.lines().any(|line| {
            line.contains(&format!("{side} was altered since it was recorded"))
                && line.contains(says)
        });
        assert!(said, "{side}: {says}: {}", refused.stderr);
    }
    for says in ["publication \"p\" was altered", "publication \"q\" is gone", "--accept written"] {
        assert!(refused.stderr.contains(says), "{says}: {}", refused.stderr);
    }
    for innocent in ["kept", "scratch", "leaf_dropped_2", "bound_1"] {
        assert!(!refused.stderr.contains(innocent), "{innocent}: {}", refused.stderr);
    }

    // One table that is as it was restored may be compared alone, and is right.
    let mut arguments = vec!["run", "--sink", "ndjson:{dir}/events", "--format", "landing"];
    arguments.extend(["--report", "{dir}/report", "--table", "public.kept", "--verify", "full"]);
    let alone = deltacompare(&gap, &arguments).run().await;
    alone.assert_completed();
    assert_eq!(alone.counts("report", "public.kept"), (0, 5, 0));
    assert_events_turn_base_into_head(&gap, &["kept"], &alone.events("events")).await;

    let accepted = planned(&plan(&gap, &with(&["--accept", "written"])).await);
    assert_eq!(accepted["gap"]["verdict"], "not_provable", "{accepted:#}");
    assert!(accepted["gap"]["why"].as_str().unwrap().contains("altered"), "{accepted:#}");
    assert!(accepted["warnings"].to_string().contains("public.truncated has another file"));
}

async fn a_selection_meets_what_concerns_it_and_nothing_else() {
    let gap = Gap::own(
        Options::default(),
        "create table t (id int primary key, v text); create table u (id int primary key, v text);
         create table root (id int primary key) partition by range (id);
         create table leaf partition of root for values from (0) to (1000);
         create table unpublished (id int primary key);
         insert into t select i, 'a' from generate_series(1, 200) i; insert into u select * from t;
         create publication p for table t, u, root",
        "update t set v = 'b' where id <= 5; update u set v = 'b' where id <= 5;
         insert into root values (1)",
    )
    .await;
    let (_recorded, file) = record(&gap).await;
    run_sql(&gap, "head", "truncate t; drop table leaf; drop table unpublished").await;
    let code = async |arguments: &[&str]| {
        let recorded = ["--recorded", &file];
        let all: Vec<&str> = recorded.iter().chain(arguments).copied().collect();
        let run = plan(&gap, &all).await;
        (run.code, run.stderr)
    };
    for (arguments, named, not_named) in [
        (&[][..], &["public.t ", "public.leaf "][..], &["public.u ", "unpublished"][..]),
        (&["--table", "public.t"], &["public.t "], &["public.leaf ", "unpublished"]),
        (&["--table", "public.root"], &["public.leaf "], &["public.t ", "unpublished"]),
        (&["--exclude", "public.t"], &["public.leaf "], &["public.t "]),
    ] {
        let (code, said) = code(arguments).await;
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(named.iter().all(|name| said.contains(name)), "{arguments:?}: {said}");
        assert!(!not_named.iter().any(|name| said.contains(name)), "{arguments:?}: {said}");
    }
    for arguments in
        [&["--table", "public.u"][..], &["--exclude", "public.t", "--exclude", "public.root"]]
    {
        let (code, said) = code(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
}

/// What a recovery creates on the restores, keeps there and removes again is no alteration.
async fn recoveries_leave_nothing_that_counts_as_altered() {
    let gap = Gap::own(
        Options::default(),
        "create table t (id int primary key, v text); create table keyless (v text);
         create table parent (id int primary key); create table child () inherits (parent);
         insert into t select i, 'a' from generate_series(1, 200) i;
         create publication p for all tables",
        "update t set v = 'b' where id <= 5; insert into keyless values ('x');
         insert into parent values (1)",
    )
    .await;
    let (lost_at, new_slot) = ends(&gap).await;
    let without =
        planned(&plan(&gap, &["--lost-at-lsn", &lost_at, "--new-slot-lsn", &new_slot]).await);
    assert_eq!(without["gap"]["verdict"], "not_provable", "{without:#}");
    let why = without["gap"]["why"].as_str().unwrap();
    assert!(why.contains("deltacompare record") && why.contains("--recorded"), "{why}");

    let (recorded, file) = record(&gap).await;
    assert!(recorded.stdout.contains("relations"), "{}", recorded.stdout);
    let positions = ["--recorded", &file, "--lost-at-lsn", &lost_at, "--new-slot-lsn", &new_slot];
    for more in [&["--keep-objects"][..], &["--strategy", "full"], &["--verify", "full"]] {
        let mut arguments = vec!["run", "--sink", "delta-table", "--report", "{dir}/report"];
        arguments.extend(positions.iter().chain(more));
        let run = deltacompare(&gap, &arguments).run().await;
        run.assert_completed();
        let report = run.report("report");
        assert_eq!(report["gap"]["verdict"], "proven", "{report:#}");
        // When the record was made, and how long after the restore had ended.
        let why = report["gap"]["why"].as_str().unwrap();
        assert!(
            why.contains("base was recorded at ") && why.contains("head was recorded at "),
            "{why}"
        );
        assert_eq!(run.counts("report", "public.t"), (0, 5, 0));
    }
    deltacompare(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    let after = planned(&plan(&gap, &positions).await);
    assert_eq!(after["gap"]["verdict"], "proven", "{after:#}");
}

/// By the strategy that looks at no file nodes; what was read before may have been right or not.
async fn what_is_altered_while_it_is_compared_fails() {
    let gap = Gap::own(
        Options::default(),
        "create table t (id int primary key, v text); create table u (id int primary key, v text);
         create table root (id int primary key, v text) partition by range (id);
         create table leaf partition of root for values from (0) to (1000);
         create table kept (id int primary key, v text);
         insert into t select i, 'a' from generate_series(1, 200) i;
         insert into u select * from t; insert into root select * from t;
         insert into kept select * from t;
         create publication p for table t, u, root, kept with (publish_via_partition_root)",
        "update t set v = 'b' where id <= 5; update u set v = 'b' where id <= 5;
         update root set v = 'b' where id <= 5; update kept set v = 'b' where id <= 5",
    )
    .await;
    let (_recorded, file) = record(&gap).await;
    let arguments =
        ["run", "--sink", "delta-table", "--report", "{dir}/report", "--recorded", &file];
    let run = async || {
        let content = arguments.into_iter().chain(["--strategy", "content"]).collect::<Vec<_>>();
        deltacompare(&gap, &content).run().await
    };
    // So that there is a delta table to be held.
    run().await.assert_completed();
    let held = hold_the_sink(&gap).await;
    let (run, ()) = tokio::join!(run(), async {
        until(&gap, &waiting_for_the_sink(4)).await;
        // These wait for the items to end, which is before the last look.
        let altering = async {
            tokio::join!(
                run_sql(&gap, "base", "alter table t add column w int"),
                run_sql(&gap, "head", "truncate u"),
                run_sql(&gap, "head", "truncate leaf"),
            )
        };
        let (_, closed) = tokio::join!(altering, held.close());
        closed.unwrap();
    });
    assert_eq!(run.code, Some(1), "{}{}", run.stdout, run.stderr);
    for (table, says) in [
        ("public.t", "base was altered while it was compared: public.t has another definition"),
        ("public.u", "head was altered while it was compared: public.u has another file"),
        ("public.root", "head was altered while it was compared: public.leaf has another file"),
    ] {
        let found = run.table("report", table);
        assert_eq!(found["state"], "failed", "{found:#}");
        assert!(found["error"].as_str().unwrap().contains(says), "{found:#}");
    }
    assert_eq!(run.table("report", "public.kept")["state"], "completed");
}

tests! {
    what_was_altered_since_it_was_recorded_is_refused_by_name: own_servers,
    a_selection_meets_what_concerns_it_and_nothing_else: own_servers,
    recoveries_leave_nothing_that_counts_as_altered: own_servers,
    what_is_altered_while_it_is_compared_fails: own_servers,
}
