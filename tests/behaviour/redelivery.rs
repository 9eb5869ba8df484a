//! A recovery may be killed at any instant and goes on: nothing is lost, nothing stays behind, and
//! what is sent twice is the same twice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use twox_hash::XxHash3_128;

use crate::support::{
    Events, Gap, NetChange, Printer, State, TableName, deltacompare, hold_the_sink, leftovers,
    printers, until,
};

/// Changes enough that a process can be met in the middle of a table.
const SCHEMA: &str = r#"
    create table big (id int primary key, v text, n numeric);
    create table wide (id bigint primary key, a text, b text, c jsonb, d timestamptz);
    create table log (at timestamptz, message text);
    alter table log replica identity full;
    create table line (order_id int, product text, amount numeric, primary key (order_id, product));
    create table small (id int primary key, v text);
    create table empty (id int primary key);
    create publication shop for all tables;
    insert into big select i, 'v' || i, i * 1.0 from generate_series(1, 60000) i;
    insert into wide
      select i, repeat('a', i % 50), md5(i::text), jsonb_build_object('i', i), now()
        from generate_series(1, 50000) i;
    insert into log
      select '2026-01-01Z'::timestamptz + i / 2 * interval '1 s', 'm' || i / 2
        from generate_series(1, 50000) i;
    insert into line
      select i, 'p' || j, j from generate_series(1, 5000) i, generate_series(1, 4) j;
    insert into small select i, 'v' from generate_series(1, 100) i;
"#;

const GAP: &str = r#"
    update big set v = 'new ' || v where id % 17 = 0;
    delete from big where id % 50 = 1;
    update big set id = id + 1000000 where id % 100 = 2;
    insert into big select i, 'i' from generate_series(200000, 201000) i;
    update wide set b = 'new' where id % 20 = 0;
    delete from wide where id % 90 = 0;
    insert into log select at, message from log where message like '%77';
    delete from log where message like '%33';
    update line set product = 'q' || product where order_id % 11 = 0;
    update small set v = 'w' where id > 50;
    insert into empty select i from generate_series(1, 10) i;
"#;

const TABLES: [&str; 6] = ["big", "wide", "log", "line", "small", "empty"];

/// What must come out, in whatever order.
type Expected = BTreeMap<TableName, Vec<NetChange>>;

async fn gap() -> (Gap, Expected) {
    let gap = Gap::between(SCHEMA, GAP).await;
    let mut expected = Expected::new();
    let (on_base, on_head) = printers(&gap).await;
    for table in TABLES.map(TableName::of) {
        let base = State::read(&on_base, &table).await;
        let changes = base.changes_to(&State::read(&on_head, &table).await);
        assert!(!changes.is_empty(), "{table}");
        expected.insert(table, changes);
    }
    on_base.close().await;
    on_head.close().await;
    (gap, expected)
}

/// A process that works on a recovery, its standard error in a file so that it can be read while
/// it runs.
struct Worker {
    child: Child,
    stderr: PathBuf,
}

/// The folder of one recovery: its event file and its workers' standard error.
struct Recovery {
    folder: tempfile::TempDir,
    workers: usize,
}

impl Recovery {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), workers: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("events")
    }

    fn begin(&mut self, gap: &Gap, strategy: &str) -> Worker {
        let file = format!("ndjson:{}", self.file().display());
        let arguments = [
            "run",
            "--sink",
            &file,
            "--sink",
            "delta-table",
            "--format",
            "landing",
            "--strategy",
            strategy,
            "--lease-seconds",
            "1",
            "--report",
            &self.path("report").display().to_string(),
        ];
        self.start(gap, &arguments)
    }

    fn resume(&mut self, gap: &Gap, id: &str) -> Worker {
        let report = self.path("report").display().to_string();
        self.start(gap, &["run", "--resume", id, "--lease-seconds", "1", "--report", &report])
    }

    fn start(&mut self, gap: &Gap, arguments: &[&str]) -> Worker {
        self.workers += 1;
        let stderr = self.path(&format!("stderr {}", self.workers));
        let file = std::fs::File::create(&stderr).unwrap();
        let child = deltacompare(gap, arguments).stderr(file).spawn();
        Worker { child, stderr }
    }

    /// Everything that is promised of a recovery that ended well.
    async fn assert_whole(&self, gap: &Gap, expected: &Expected, id: &str) {
        self.assert_recovered(gap, expected, id).await;
        assert_eq!(leftovers(gap).await, Vec::<String>::new());
    }

    /// The same while others may still have sessions.
    async fn assert_recovered(&self, gap: &Gap, expected: &Expected, id: &str) {
        let events = Events::read(&self.file());
        assert!(events.0.iter().all(|event| event.recovery_id == id));
        let head = Printer::of(&gap.head).await;
        for table in TABLES.map(TableName::of) {
            let mut changes = events.changes(&head, &table).await;
            changes.sort();
            assert!(changes == expected[&table], "{table}");
        }
        head.close().await;
        let delta = Events::delta_of(&gap.head, id).await;
        assert_eq!(delta.0.len(), delta.by_id().len(), "an id is in the delta table twice");
        assert_eq!(delta.by_id(), events.by_id(), "the sinks differ");
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.path("report")).unwrap()).unwrap();
        assert_eq!(report["state"], "completed", "{report:#}");
        let totals = &report["totals"];
        let counted: u64 = ["inserts", "updates", "deletes"]
            .iter()
            .map(|count| totals[count].as_u64().unwrap())
            .sum();
        assert_eq!(counted as usize, events.by_id().len(), "{report:#}");
        assert_digests(&report, &events);
    }
}

/// Whoever has the events checks the report, as docs/audit.md says: however often an event was sent.
fn assert_digests(report: &serde_json::Value, events: &Events) {
    let once: BTreeMap<&str, (&str, &str)> = events
        .0
        .iter()
        .map(|event| (event.event_id.as_str(), (event.table.as_str(), event.line.as_str())))
        .collect();
    for table in report["tables"].as_array().unwrap() {
        let of_table = once.values().filter(|(name, _)| *name == table["table"]);
        let digest = of_table
            .fold(0u128, |sum, (_, line)| sum.wrapping_add(XxHash3_128::oneshot(line.as_bytes())));
        assert_eq!(table["events_digest"], digest.to_string(), "{table:#}");
    }
}

impl Worker {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// The id of the recovery, if it was printed yet.
    fn id(&self) -> Option<String> {
        let said = self.said();
        let line = said.lines().find_map(|line| line.strip_prefix("recovery "))?;
        Some(line.trim().to_owned())
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// Kills it after this time, if it has not ended by then. Yields whether it has.
    async fn kill_after(&mut self, delay: Duration) -> bool {
        let ended = tokio::time::timeout(delay, self.child.wait()).await.is_ok();
        if !ended {
            self.child.kill().await.unwrap();
        }
        ended
    }

    async fn wait(&mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }

    async fn assert_completes(&mut self) {
        let code = self.wait().await;
        assert_eq!(code, Some(0), "{}", self.said());
    }
}

const WORKING: &str = "select exists (select from deltacompare.work_item w \
    join deltacompare.recovery r on r.id = w.recovery_id \
    where r.state = 'running' and w.state = 'running')";

/// Kills recoveries at instants spread over the time that one takes, now and then the resumption
/// too, and then lets it end. More instants: `DELTACOMPARE_KILLS`.
async fn sweep(strategy: &str) {
    let instants: u32 = std::env::var("DELTACOMPARE_KILLS").map_or(4, |text| text.parse().unwrap());
    let (gap, expected) = gap().await;
    let started = Instant::now();
    let mut whole = Recovery::new();
    let mut worker = whole.begin(&gap, strategy);
    worker.assert_completes().await;
    let takes = started.elapsed();
    whole.assert_whole(&gap, &expected, &worker.id().unwrap()).await;
    // On a busy machine a lease of a second may run out, and events come twice here too.
    let events = Events::read(&whole.file()).by_id().len();
    println!("{strategy}: {takes:?}, {events} events");
    // At its end it waits two seconds for the statistics: one instant in them is enough.
    let busy = takes - Duration::from_secs(2);
    for instant in 1..=instants {
        let delay = match instant == instants {
            true => busy + Duration::from_secs(1),
            false => busy * instant / instants,
        };
        let mut recovery = Recovery::new();
        let mut worker = recovery.begin(&gap, strategy);
        worker.kill_after(delay).await;
        let Some(id) = worker.id() else {
            // Nobody can resume it, and nobody needs to.
            println!("{delay:?}: killed before there was a recovery");
            continue;
        };
        let mut killed_twice = false;
        worker = recovery.resume(&gap, &id);
        if instant % 2 == 0 {
            killed_twice = !worker.kill_after(busy * (instants - instant + 1) / instants).await;
            worker = recovery.resume(&gap, &id);
        }
        worker.assert_completes().await;
        recovery.assert_whole(&gap, &expected, &id).await;
        let sent = Events::read(&recovery.file()).0.len();
        println!("{delay:?}, again {killed_twice}: {} events twice", sent - events);
    }
}

async fn killed_at_any_instant_comparing_row_versions() {
    sweep("auto").await;
}

async fn killed_at_any_instant_reading_everything() {
    sweep("full").await;
}

async fn killed_again_and_again() {
    let (gap, expected) = gap().await;
    let mut recovery = Recovery::new();
    let mut worker = recovery.begin(&gap, "full");
    until(&gap, WORKING).await;
    let id = worker.id().unwrap();
    for number in 0..8 {
        // Every other time in the middle of a table, when some of its events are out.
        if number % 2 == 1 {
            let size = std::fs::metadata(recovery.file()).map_or(0, |file| file.len());
            let since = Instant::now();
            while std::fs::metadata(recovery.file()).map_or(0, |file| file.len()) == size {
                assert!(since.elapsed() < Duration::from_secs(60), "it sends nothing");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        worker.kill_after(Duration::from_millis(number * 7)).await;
        worker = recovery.resume(&gap, &id);
        if number < 7 {
            until(&gap, WORKING).await;
        }
    }
    worker.assert_completes().await;
    recovery.assert_whole(&gap, &expected, &id).await;
    let events = Events::read(&recovery.file());
    assert!(events.0.len() > events.by_id().len(), "nothing was sent twice");
}

async fn an_interrupted_recovery_says_how_to_go_on() {
    let (gap, expected) = gap().await;
    for signal in ["-INT", "-TERM"] {
        let mut recovery = Recovery::new();
        let mut worker = recovery.begin(&gap, "full");
        until(&gap, WORKING).await;
        let id = worker.id().unwrap();
        for delay in [0, 50, 150, 300] {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            worker.signal(signal).await;
            assert_eq!(worker.wait().await, Some(130), "{}", worker.said());
            let command = format!("deltacompare run --resume {id}");
            assert!(worker.said().contains(&command), "{}", worker.said());
            assert_eq!(leftovers(&gap).await, Vec::<String>::new());
            let held = "select count(*) from deltacompare.work_item where state = 'running'";
            assert_eq!(gap.head.value::<i64>(held).await.unwrap(), 0, "it holds tables");
            worker = recovery.resume(&gap, &id);
            until(&gap, WORKING).await;
        }
        worker.signal(signal).await;
        assert_eq!(worker.wait().await, Some(130), "{}", worker.said());
        let mut worker = recovery.resume(&gap, &id);
        worker.assert_completes().await;
        recovery.assert_whole(&gap, &expected, &id).await;

        // A recovery that has ended is only told of again.
        let before = status(&gap, &id).await;
        let file = std::fs::read(recovery.file()).unwrap();
        std::fs::remove_file(recovery.path("report")).unwrap();
        let mut worker = recovery.resume(&gap, &id);
        worker.assert_completes().await;
        recovery.assert_whole(&gap, &expected, &id).await;
        assert!(std::fs::read(recovery.file()).unwrap() == file, "it wrote events again");
        assert_eq!(status(&gap, &id).await, before);
    }
}

async fn a_recovery_that_nobody_knows_is_refused() {
    let gap = Gap::between("create table t (id int primary key)", "").await;
    let mut recovery = Recovery::new();
    let id = "6f9619ff-8b86-4d11-b42d-00c04fc964ff";
    for publication in ["p", "q"] {
        let mut worker = recovery.resume(&gap, id);
        assert_eq!(worker.wait().await, Some(2), "{}", worker.said());
        assert!(worker.said().contains(id), "{}", worker.said());
        assert_eq!(leftovers(&gap).await, Vec::<String>::new());
        // The second time with a status store.
        gap.head.sql(format!("create publication {publication} for table t")).await.unwrap();
        let run = deltacompare(&gap, &["run", "--sink", "delta-table", "--table", "public.t"]);
        run.run().await.assert_completed();
    }
}

async fn a_recovery_of_another_version_is_refused() {
    let gap =
        Gap::between("create table t (id int primary key); create publication p for table t", "")
            .await;
    let run = ["run", "--sink", "delta-table", "--accept", "empty-gap"];
    deltacompare(&gap, &run).run().await.assert_completed();
    let id: String = gap.head.value("select id::text from deltacompare.recovery").await.unwrap();
    // A word that this version does not know, in what was asked for.
    let other =
        "update deltacompare.recovery set request = jsonb_set(request, '{strategy}', '\"x\"')";
    gap.head.sql(other).await.unwrap();
    let refused = deltacompare(&gap, &["run", "--resume", &id]).run().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    for word in [id.as_str(), "by another version", "cleanup --yes"] {
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
    let other = "update deltacompare.refinery_schema_history set checksum = '1'";
    gap.head.sql(other).await.unwrap();
    for arguments in [&run[..], &["run", "--resume", &id]] {
        let refused = deltacompare(&gap, arguments).run().await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        for word in ["by another version", "cleanup --yes"] {
            assert!(refused.stderr.contains(word), "{}", refused.stderr);
        }
    }
}

/// All that the store has of a recovery, as text.
async fn status(gap: &Gap, id: &str) -> Vec<(String,)> {
    gap.head
        .rows(format!(
            "select r::text from deltacompare.recovery r where id = '{id}' union all \
             (select i::text from deltacompare.work_item i where recovery_id = '{id}' order by number)"
        ))
        .await
        .unwrap()
}

async fn a_worker_that_lost_its_lease_changes_nothing() {
    let (gap, expected) = gap().await;
    // So that there is a delta table.
    let first = ["run", "--sink", "delta-table", "--format", "landing", "--table", "public.empty"];
    deltacompare(&gap, &first).run().await.assert_completed();
    let sink = hold_the_sink(&gap).await;
    let mut recovery = Recovery::new();
    let mut stopped = recovery.begin(&gap, "full");
    // In the middle of a table, events in its hands.
    until(
        &gap,
        "select exists (select from pg_locks
          where not granted and relation = to_regclass('deltacompare.delta')
            and database = (select oid from pg_database where datname = current_database()))",
    )
    .await;
    stopped.signal("-STOP").await;
    sink.close().await.unwrap();
    let id = stopped.id().unwrap();
    let mut worker = recovery.resume(&gap, &id);
    worker.assert_completes().await;
    recovery.assert_recovered(&gap, &expected, &id).await;
    let before = status(&gap, &id).await;
    let was = std::fs::read(recovery.file()).unwrap();
    stopped.signal("-CONT").await;
    let code = stopped.wait().await;
    assert!(std::fs::read(recovery.file()).unwrap().starts_with(&was), "it wrote over events");
    println!("the stopped worker ended with {code:?}:\n{}", stopped.said());
    assert_eq!(status(&gap, &id).await, before);
    recovery.assert_whole(&gap, &expected, &id).await;
}

async fn two_processes_may_work_on_one_recovery() {
    let (gap, expected) = gap().await;
    for strategy in ["auto", "full"] {
        let mut recovery = Recovery::new();
        let mut first = recovery.begin(&gap, strategy);
        until(&gap, WORKING).await;
        first.kill_after(Duration::ZERO).await;
        let id = first.id().unwrap();
        let mut one = recovery.resume(&gap, &id);
        let mut two = recovery.resume(&gap, &id);
        let (code_one, code_two) = (one.wait().await, two.wait().await);
        println!("one: {code_one:?}\n{}\ntwo: {code_two:?}\n{}", one.said(), two.said());
        assert_eq!((code_one, code_two), (Some(0), Some(0)));
        recovery.assert_whole(&gap, &expected, &id).await;
    }
}

tests! {
    killed_at_any_instant_comparing_row_versions: seconds(600),
    killed_at_any_instant_reading_everything: seconds(600),
    killed_again_and_again: seconds(600),
    an_interrupted_recovery_says_how_to_go_on: seconds(600),
    a_recovery_that_nobody_knows_is_refused: seconds(600),
    a_recovery_of_another_version_is_refused,
    a_worker_that_lost_its_lease_changes_nothing: seconds(600),
    two_processes_may_work_on_one_recovery: seconds(600),
}
