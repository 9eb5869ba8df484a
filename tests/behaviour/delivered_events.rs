//! Events that were counted as delivered and are gone: a file that was moved, emptied or exchanged,
//! a delta table that was emptied or dropped. The recovery stops and says so; it never completes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::process::Child;

use crate::functions_faults;
use crate::support::{Events, Gap, assert_events_turn_base_into_head, deltacompare, until};

const SCHEMA: &str = r#"
    create table first (id int primary key, v text);
    create table second (id int primary key, v text);
    insert into first select i, 'v' from generate_series(1, 1000) i;
    insert into second select i, 'v' from generate_series(1, 1000) i;
    create table held (yes bool);
"#;

const GAP: &str = r#"
    update first set v = 'w' where id > 100;
    update second set v = 'w' where id > 200;
"#;

const TABLES: [&str; 2] = ["first", "second"];

/// Two tables that changed. Whoever writes an event of `second` to the delta table waits while
/// `held` has a row.
async fn gap() -> Gap {
    let gap = Gap::between(SCHEMA, GAP).await;
    // For the delta table.
    let first = ["run", "--sink", "delta-table", "--format", "landing", "--table", "public.first"];
    deltacompare(&gap, &first).run().await.assert_completed();
    hold_second(&gap).await;
    gap
}

async fn hold_second(gap: &Gap) {
    gap.head
        .sql(
            "create function public.hold() returns trigger language plpgsql as $$
               begin
                 while new.table_name = 'second' and exists (select from public.held) loop
                   perform pg_sleep(0.01);
                 end loop;
                 return new;
               end $$;
             create trigger hold before insert on deltacompare.delta
               for each row execute function public.hold();
             insert into public.held values (true)",
        )
        .await
        .unwrap();
}

async fn release(gap: &Gap) {
    gap.head.sql("delete from public.held").await.unwrap();
}

const WRITING: &str = "select exists (select from pg_stat_activity
    where datname = current_database() and state = 'active' and pid <> pg_backend_pid()
      and query ~ 'insert into deltacompare.delta')";

const TRUNCATION_WAITS: &str = "select exists (select from pg_locks l join pg_database d
    on d.oid = l.database where d.datname = current_database() and not l.granted)";

/// The same for a recovery: its first table is done, and it is writing the second's events.
fn in_the_middle(id: &str) -> String {
    format!(
        "select exists (select from deltacompare.work_item where recovery_id = '{id}'
                           and table_name = 'first' and state = 'completed') and ({WRITING})"
    )
}

/// A recovery into a file and the delta table, stopped while it writes `second`'s events: those of
/// `first` count as delivered.
struct Recovery {
    folder: tempfile::TempDir,
    child: Child,
    id: String,
    runs: usize,
}

impl Recovery {
    /// Begins, and waits until `second` is being written.
    async fn begin(gap: &Gap) -> Self {
        let folder = tempfile::tempdir().unwrap();
        gap.head
            .sql("delete from public.held; insert into public.held values (true)")
            .await
            .unwrap();
        let file = format!("ndjson:{}", folder.path().join("events").display());
        let sinks = ["--sink", &file, "--sink", "delta-table", "--format", "landing"];
        let tables = [
            "--table",
            "public.first",
            "--table",
            "public.second",
            "--parallel",
            "1",
            "--lease-seconds",
            "1",
        ];
        let stderr = folder.path().join("stderr 0");
        let child = deltacompare(gap, &[&["run"], &sinks[..], &tables].concat())
            .stderr(std::fs::File::create(&stderr).unwrap())
            .spawn();
        let since = std::time::Instant::now();
        let id = loop {
            let said = std::fs::read_to_string(&stderr).unwrap();
            if let Some(line) = said.lines().find_map(|line| line.strip_prefix("recovery ")) {
                break line.trim().to_owned();
            }
            assert!(since.elapsed() < Duration::from_secs(60), "{said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        until(gap, &in_the_middle(&id)).await;
        Self { folder, child, id, runs: 0 }
    }

    /// Begins, and is killed in the middle.
    async fn killed(gap: &Gap) -> Self {
        let mut recovery = Self::begin(gap).await;
        recovery.child.kill().await.unwrap();
        // What it was writing ends with its session.
        gap.head
            .sql(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and pid <> pg_backend_pid()
                    and query ~ 'insert into deltacompare.delta'",
            )
            .await
            .unwrap();
        until(gap, &format!("select not ({WRITING})")).await;
        recovery
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("events")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("stderr {}", self.runs))).unwrap()
    }

    async fn ends(&mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }

    async fn resume(&mut self, gap: &Gap) -> Option<i32> {
        self.runs += 1;
        let stderr = self.folder.path().join(format!("stderr {}", self.runs));
        self.child =
            deltacompare(gap, &["run", "--resume", &self.id.clone(), "--lease-seconds", "1"])
                .stderr(std::fs::File::create(&stderr).unwrap())
                .spawn();
        self.ends().await
    }

    /// Goes on, and is refused with these words.
    async fn refused(&mut self, gap: &Gap, words: &[&str]) {
        release(gap).await;
        assert_eq!(self.resume(gap).await, Some(2), "{}", self.said());
        self.assert_said(words);
        assert_ne!(self.state(gap).await, "completed");
    }

    /// The process that works on it ends with these words.
    async fn stops(&mut self, gap: &Gap, words: &[&str]) {
        assert_eq!(self.ends().await, Some(1), "{}", self.said());
        self.assert_said(words);
        assert_ne!(self.state(gap).await, "completed");
    }

    fn assert_said(&self, words: &[&str]) {
        let said = self.said();
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    }

    /// Goes on to the end; both sinks have everything.
    async fn completes(&mut self, gap: &Gap) {
        release(gap).await;
        assert_eq!(self.resume(gap).await, Some(0), "{}", self.said());
        assert_eq!(self.state(gap).await, "completed");
        self.assert_whole_file(gap).await;
        self.assert_whole_delta(gap).await;
    }

    async fn assert_whole_file(&self, gap: &Gap) {
        assert_events_turn_base_into_head(gap, &TABLES, &Events::read(&self.file())).await;
    }

    async fn assert_whole_delta(&self, gap: &Gap) {
        let events = Events::delta_of(&gap.head, &self.id).await;
        assert_events_turn_base_into_head(gap, &TABLES, &events).await;
    }

    async fn state(&self, gap: &Gap) -> String {
        let id = &self.id;
        gap.head
            .value(format!("select state from deltacompare.recovery where id = '{id}'"))
            .await
            .unwrap()
    }
}

fn set_len(file: &Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

async fn a_file_that_is_not_as_it_was_left_is_not_gone_on_with() {
    let gap = gap().await;

    // Moved away, and put back.
    let mut recovery = Recovery::killed(&gap).await;
    let (file, elsewhere) = (recovery.file(), recovery.folder.path().join("elsewhere"));
    std::fs::rename(&file, &elsewhere).unwrap();
    recovery.refused(&gap, &[&file.display().to_string(), "is gone", "--resume"]).await;
    assert!(!file.exists(), "another file was begun");
    std::fs::rename(&elsewhere, &file).unwrap();
    recovery.completes(&gap).await;

    // Emptied, and written again as it was, without what was not acknowledged.
    let mut recovery = Recovery::killed(&gap).await;
    let file = recovery.file();
    let content = std::fs::read(&file).unwrap();
    set_len(&file, 0);
    recovery.refused(&gap, &["is shorter than it was", "--resume"]).await;
    let first: Vec<u8> = content
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| line.windows(7).any(|word| word == b"\"first\""))
        .flatten()
        .copied()
        .collect();
    assert!(first.len() < content.len());
    std::fs::write(&file, &first).unwrap();
    recovery.completes(&gap).await;

    // One line too few.
    let mut recovery = Recovery::killed(&gap).await;
    let file = recovery.file();
    let content = std::fs::read(&file).unwrap();
    let second = content.windows(8).position(|word| word == b"\"second\"").unwrap();
    let end = content[..second].iter().rposition(|&byte| byte == b'\n').unwrap();
    set_len(&file, end as u64);
    recovery.refused(&gap, &["is shorter than it was"]).await;

    // Exchanged for a longer one, and for a copy of it.
    let mut recovery = Recovery::killed(&gap).await;
    let file = recovery.file();
    let copy = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "{}\n".repeat(copy.len())).unwrap();
    recovery.refused(&gap, &["has other content than it had", "--resume"]).await;
    assert_eq!(std::fs::read(&file).unwrap(), "{}\n".repeat(copy.len()).into_bytes());
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &copy).unwrap();
    recovery.completes(&gap).await;
}

async fn a_file_that_goes_away_while_it_is_written_stops_the_recovery() {
    let gap = gap().await;

    let mut recovery = Recovery::begin(&gap).await;
    let file = recovery.file();
    std::fs::remove_file(&file).unwrap();
    release(&gap).await;
    recovery.stops(&gap, &[&file.display().to_string(), "is gone", "--resume"]).await;
    assert!(!file.exists());
    recovery.refused(&gap, &["is gone"]).await;

    let mut recovery = Recovery::begin(&gap).await;
    set_len(&recovery.file(), 0);
    release(&gap).await;
    recovery.stops(&gap, &["is shorter than it was"]).await;

    // Exchanged, as by a rotation of logs; nothing is lost once it is put back.
    let mut recovery = Recovery::begin(&gap).await;
    let (file, elsewhere) = (recovery.file(), recovery.folder.path().join("elsewhere"));
    std::fs::rename(&file, &elsewhere).unwrap();
    std::fs::write(&file, "").unwrap();
    release(&gap).await;
    recovery.stops(&gap, &["is another file now"]).await;
    std::fs::rename(&elsewhere, &file).unwrap();
    recovery.completes(&gap).await;
}

async fn a_delta_table_that_has_lost_rows_is_not_gone_on_with() {
    let gap = gap().await;
    let sql = async |statement: &str| gap.head.sql(statement).await.unwrap();

    // Put aside, and put back.
    let mut recovery = Recovery::killed(&gap).await;
    sql("alter table deltacompare.delta rename to aside").await;
    recovery.refused(&gap, &["the delta table", "is gone"]).await;
    sql("alter table deltacompare.aside rename to delta").await;
    recovery.completes(&gap).await;

    // One row too few.
    let mut recovery = Recovery::killed(&gap).await;
    let id = recovery.id.clone();
    sql(&format!(
        "delete from deltacompare.delta where ctid = any(array(
           select ctid from deltacompare.delta where recovery_id = '{id}' limit 1))"
    ))
    .await;
    recovery.refused(&gap, &["899 of the 900 events", "begin a new recovery"]).await;

    let mut recovery = Recovery::killed(&gap).await;
    sql("truncate deltacompare.delta").await;
    recovery.refused(&gap, &["0 of the 900 events", "begin a new recovery"]).await;

    // While it is written: the truncation waits for the statement that is under way.
    let mut recovery = Recovery::begin(&gap).await;
    let truncated = gap.head.sql("truncate deltacompare.delta");
    let released = async {
        until(&gap, TRUNCATION_WAITS).await;
        release(&gap).await;
    };
    let (truncated, ()) = tokio::join!(truncated, released);
    truncated.unwrap();
    recovery.stops(&gap, &["the delta table"]).await;
    recovery.refused(&gap, &["begin a new recovery"]).await;

    let mut recovery = Recovery::begin(&gap).await;
    let id = recovery.id.clone();
    sql(&format!("delete from deltacompare.delta where recovery_id = '{id}'")).await;
    release(&gap).await;
    recovery.stops(&gap, &["the delta table", "of the 1700 events"]).await;

    // Rewritten by an administrator: nothing is lost.
    let mut recovery = Recovery::begin(&gap).await;
    let rewritten = gap.head.sql("vacuum full deltacompare.delta");
    let released = async {
        until(&gap, TRUNCATION_WAITS).await;
        release(&gap).await;
    };
    let (rewritten, ()) = tokio::join!(rewritten, released);
    rewritten.unwrap();
    let _ = recovery.ends().await;
    recovery.completes(&gap).await;
}

async fn the_app_fails_a_recovery_whose_delta_table_was_emptied() {
    let gap = Gap::between(SCHEMA, GAP).await;
    let app = functions_faults::start(&gap, 1, &[]).await;
    hold_second(&gap).await;
    let id = app
        .begin(&json!({
            "sinks": ["delta-table"], "format": "landing", "parallel": 1,
            "tables": ["public.first", "public.second"],
        }))
        .await;
    until(&gap, &in_the_middle(&id)).await;
    gap.head
        .sql(format!("delete from deltacompare.delta where recovery_id = '{id}'"))
        .await
        .unwrap();
    release(&gap).await;
    let status = app.ended(&id).await;
    assert_eq!(status["state"], "failed", "{status:#}");
    let error = status["error"].as_str().unwrap();
    for word in ["the delta table", "of the 1700 events", "begin a new recovery"] {
        assert!(error.contains(word), "{error}");
    }
}

tests! {
    a_file_that_is_not_as_it_was_left_is_not_gone_on_with,
    a_file_that_goes_away_while_it_is_written_stops_the_recovery,
    a_delta_table_that_has_lost_rows_is_not_gone_on_with,
    the_app_fails_a_recovery_whose_delta_table_was_emptied,
}
