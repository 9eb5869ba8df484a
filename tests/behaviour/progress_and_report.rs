//! What an operator sees of a recovery: exit codes, the report, progress, and what failed and why.

use std::process::Stdio;

use deltacompare_testbed::{Options, Role, StopMode};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{
    Events, Fingerprint, Gap, Run, TableName, assert_recovered, deltacompare, leftovers, until,
};

const SCHEMA: &str = r#"
    create table big (id int primary key, v text);
    create table log (at timestamptz, message text);
    alter table log replica identity full;
    create table small (id int primary key, v text);
    create table untouched (id int primary key);
    create publication shop for all tables;
    insert into big select i, repeat('v', i % 40) from generate_series(1, 60000) i;
    insert into log select '2026-01-01Z'::timestamptz + i * interval '1 s', 'm' from generate_series(1, 50000) i;
    insert into small select i, 'v' from generate_series(1, 100) i;
    insert into untouched select i from generate_series(1, 100) i;
"#;

const GAP: &str = r#"
    update big set v = 'new' where id % 50 = 0;
    delete from big where id % 70 = 1;
    insert into log select at, 'n' from log where message = 'm' limit 100;
    delete from small where id <= 7;
    update small set v = 'w' where id > 90;
    insert into small values (1000, null);
"#;

const ALL: [&str; 4] = ["big", "log", "small", "untouched"];

/// Waits until a work item runs.
async fn until_working(gap: &Gap) {
    let working = "select exists (select from deltacompare.work_item where state = 'running')";
    until(gap, working).await;
}

/// Runs a recovery, one table after the other, the smallest last, and lets something happen as
/// soon as the first one is being read.
async fn run_while(gap: &Gap, happens: impl AsyncFnOnce()) -> Run {
    let arguments = [
        "run",
        "--sink",
        "ndjson:{dir}/events",
        "--format",
        "landing",
        "--strategy",
        "full",
        "--parallel",
        "1",
        "--report",
        "{dir}/report",
        "--note",
        "incident 7",
    ];
    let (run, ()) = tokio::join!(deltacompare(gap, &arguments).run(), async {
        until_working(gap).await;
        happens().await;
    });
    run
}

fn table<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tables = report["tables"].as_array().unwrap();
    tables.iter().find(|table| table["table"] == name).unwrap_or_else(|| panic!("{report:#}"))
}

/// Only this table failed, with these words; it is named on the terminal too. The others are whole.
async fn assert_failed_alone(gap: &Gap, run: &Run, failed: &str, words: &str) {
    assert_eq!(run.code, Some(1), "stdout:\n{}\nstderr:\n{}", run.stdout, run.stderr);
    let report = run.report("report");
    assert_eq!(report["state"], "failed");
    for name in ALL {
        let table = table(&report, name);
        if name == failed {
            assert_eq!(table["state"], "failed");
            let error = table["error"].as_str().unwrap();
            assert!(error.contains(words), "{error}");
            for output in [&run.stdout, &run.stderr] {
                assert!(output.contains(failed), "{output}");
            }
            assert!(format!("{}{}", run.stdout, run.stderr).contains(words), "{}", run.stdout);
        } else {
            assert_eq!((&table["state"], &table["error"]), (&"completed".into(), &Value::Null));
            assert_recovered(gap, &TableName::of(name), &run.events("events")).await;
        }
    }
    assert_eq!(leftovers(gap).await, Vec::<String>::new());
}

async fn the_report_tells_what_was_found() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let run = run_while(&gap, async || ()).await;
    run.assert_completed();
    let report = run.report("report");
    assert_eq!(report["note"], "incident 7");

    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let without = |all: Vec<String>, also: &[&str]| -> Vec<String> {
        all.into_iter().filter(|key| !also.contains(&key.as_str())).collect()
    };
    let mut fields = without(keys(&report), &["warnings", "base_end_lsn", "head_end_lsn"]);
    fields.sort();
    assert_eq!(
        fields,
        [
            "finished_at",
            "gap",
            "note",
            "recovery_id",
            "started_at",
            "state",
            "tables",
            "totals",
            "version"
        ],
        "{report:#}"
    );
    let mut fields = without(keys(&report["tables"][0]), &["strategy_reason"]);
    fields.sort();
    assert_eq!(
        fields,
        [
            "balance",
            "deletes",
            "error",
            "events_digest",
            "inserts",
            "rows_base",
            "rows_compared",
            "rows_head",
            "schema",
            "seconds",
            "state",
            "strategy",
            "table",
            "updates",
            "warnings"
        ]
    );
    assert_eq!(report["state"], "completed");
    assert!(run.stderr.contains(report["recovery_id"].as_str().unwrap()));
    assert!(report["started_at"].as_str().unwrap() < report["finished_at"].as_str().unwrap());
    let counts = |of: &Value| {
        ["inserts", "updates", "deletes", "rows_compared"].map(|count| of[count].as_u64().unwrap())
    };
    let per_table: Vec<[u64; 4]> = ALL.iter().map(|name| counts(table(&report, name))).collect();
    assert_eq!(per_table[2], [1, 10, 7, 94 + 7]);
    assert_eq!(per_table[3], [0, 0, 0, 100]);
    let sums = (0..4).map(|at| per_table.iter().map(|counts| counts[at]).sum::<u64>());
    assert_eq!(sums.collect::<Vec<_>>(), counts(&report["totals"]));
    for name in ALL {
        let table = table(&report, name);
        assert_eq!((&table["schema"], &table["strategy"]), (&"public".into(), &"full".into()));
        assert!(table["seconds"].as_f64().unwrap() >= 0.0);
        assert!(run.stdout.contains(name), "{}", run.stdout);
        assert_recovered(&gap, &TableName::of(name), &run.events("events")).await;
    }

    // Not a terminal: plain lines, one a table.
    assert!(!run.stderr.contains('\u{1b}') && !run.stderr.contains('\r'), "{:?}", run.stderr);
    for name in ALL {
        let lines = run.stderr.lines().filter(|line| line.starts_with(&format!("public.{name}: ")));
        assert_eq!(lines.count(), 1, "{}", run.stderr);
    }
}

async fn a_terminal_shows_bars() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let folder = tempfile::tempdir().unwrap();
    let command = format!(
        "{} run --strategy full --sink ndjson:{}/events",
        env!("CARGO_BIN_EXE_deltacompare"),
        folder.path().display()
    );
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .env("DELTACOMPARE_BASE", gap.base.url(Role::Admin))
        .env("DELTACOMPARE_HEAD", gap.head.url(Role::Admin))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains('\u{1b}'), "{shown}");
    for word in ["all tables", "public.big", "elapsed", "left", "rows", "/s"] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
}

async fn a_table_that_vanishes_fails_alone() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let run = run_while(&gap, async || gap.head.sql("drop table small").await.unwrap()).await;
    assert_failed_alone(&gap, &run, "small", "does not exist").await;
}

async fn a_table_that_is_written_to_meanwhile_fails_alone() {
    let gaps = tokio::join!(Gap::between(SCHEMA, GAP), Gap::between(SCHEMA, GAP));
    for (side, gap) in [("base", &gaps.0), ("head", &gaps.1)] {
        let server = if side == "base" { &gap.base } else { &gap.head };
        let write = "update untouched set id = -id where id = 1";
        let run = run_while(gap, async || server.sql(write).await.unwrap()).await;
        let words = format!("{side} was written to while it was compared");
        assert_failed_alone(gap, &run, "untouched", &words).await;
    }
}

async fn a_restart_of_base_is_borne() {
    for mode in [StopMode::Fast, StopMode::Immediate] {
        let gap = Gap::own(Options::default(), SCHEMA, GAP).await;
        let run = run_while(&gap, async || {
            gap.base.stop(mode).await.unwrap();
            gap.base.start().await.unwrap();
        })
        .await;
        run.assert_completed();
        let events = run.events("events");
        events.by_id();
        for name in ALL {
            assert_recovered(&gap, &TableName::of(name), &events).await;
        }
        assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    }
}

async fn a_full_disk_is_no_ones_fault_but_the_disks() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_deltacompare");
    let events = folder.path().join("events");
    // No file may grow beyond 100 kB; without the signal, writing fails as on a full disk.
    let run = format!(
        "trap '' XFSZ; ulimit -f 100; exec {program} run --strategy full --format landing \
         --lease-seconds 1 --sink ndjson:{}",
        events.display()
    );
    let start = |command: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", command])
            .env("DELTACOMPARE_BASE", gap.base.url(Role::Admin))
            .env("DELTACOMPARE_HEAD", gap.head.url(Role::Admin))
            .stdin(Stdio::null());
        bash
    };
    let output = start(&run).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be written") && said.contains("--resume"), "{said}");
    let id = said.lines().find_map(|line| line.strip_prefix("recovery ")).unwrap();

    let output = start(&format!("exec {program} run --resume {id}")).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let events = Events::read(&events);
    for name in ALL {
        assert_recovered(&gap, &TableName::of(name), &events).await;
    }
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

/// A report replaces a report. What else is there may be events.
async fn a_report_replaces_nothing_but_a_report() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (events, report) = (path("events"), path("report"));
    let sink = format!("ndjson:{events}");
    let run = async |arguments: &[&str]| {
        let small = ["run", "--table", "public.small", "--format", "landing"];
        deltacompare(&gap, &[&small[..], arguments].concat()).run().await
    };
    let refused = run(&["--sink", &sink, "--report", &events]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("both in --sink and in --report"), "{}", refused.stderr);

    run(&["--sink", &sink, "--report", &report]).await.assert_completed();
    run(&["--sink", "delta-table", "--report", &report]).await.assert_completed();
    let kept = std::fs::read(&events).unwrap();
    assert!(!kept.is_empty());
    let refused = run(&["--sink", "delta-table", "--report", &events]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("is no report"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&events).unwrap(), kept);
}

/// Whoever reads the output may have gone away: `deltacompare run … | head -1`.
async fn a_closed_output_ends_no_run() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let arguments = ["run", "--sink", "delta-table", "--report", "{dir}/report"];
    let mut program = deltacompare(&gap, &arguments);
    let mut child = program.spawn();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let report = std::fs::read(program.folder().join("report")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["state"], "completed");
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

async fn planning_changes_nothing() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let before = Fingerprint::of_both(&gap).await;
    let plan = deltacompare(&gap, &["plan"]).run().await;
    plan.assert_completed();
    let json = deltacompare(&gap, &["plan", "--json"]).run().await;
    json.assert_completed();
    let after = Fingerprint::of_both(&gap).await;
    before.0.assert_same(&after.0, "base");
    before.1.assert_same(&after.1, "head");
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    for name in ALL {
        let planned = table(&json, name);
        assert_eq!(planned["schema"], "public");
        assert!(planned["bytes"].as_u64().is_some() && planned["strategy"].is_string());
        assert!(plan.stdout.contains(name), "{}", plan.stdout);
    }
}

tests! {
    the_report_tells_what_was_found,
    a_terminal_shows_bars,
    a_table_that_vanishes_fails_alone,
    a_table_that_is_written_to_meanwhile_fails_alone,
    a_restart_of_base_is_borne: own_servers,
    a_full_disk_is_no_ones_fault_but_the_disks,
    planning_changes_nothing,
    a_report_replaces_nothing_but_a_report,
    a_closed_output_ends_no_run,
}
