//! Base or head goes away in the middle of a recovery, or the network to it does: nothing is lost,
//! and the recovery goes on.

use std::time::Duration;

use deltacompare_testbed::{Options, Proxy, Role, Server, StopMode};
use tempfile::TempDir;

use crate::support::{
    Events, Gap, Program, assert_events_turn_base_into_head, deltacompare, leftovers, until,
};

/// Changes enough that a process can be met in the middle of a table.
const SCHEMA: &str = r#"
    create table big (id int primary key, v text, n numeric);
    create table log (at timestamptz, message text);
    alter table log replica identity full;
    create table small (id int primary key, v text);
    create publication shop for all tables;
    insert into big select i, 'v' || i, i * 1.0 from generate_series(1, 150000) i;
    insert into log
      select '2026-01-01Z'::timestamptz + i / 2 * interval '1 s', 'm' || i / 2
        from generate_series(1, 30000) i;
    insert into small select i, 'v' from generate_series(1, 100) i;
"#;

const GAP: &str = r#"
    update big set v = 'new ' || v where id % 7 = 0;
    delete from big where id % 50 = 1;
    insert into big select i, 'i' from generate_series(300000, 301000) i;
    insert into log select at, message from log where message like '%77';
    delete from log where message like '%33';
    update small set v = 'w' where id > 50;
"#;

const TABLES: [&str; 3] = ["public.big", "public.log", "public.small"];

/// A recovery whose connections to both servers, head's to base too, go through proxies.
struct Recovery {
    gap: Gap,
    base: Proxy,
    head: Proxy,
    folder: TempDir,
}

impl Recovery {
    async fn new(gap: Gap) -> Self {
        let base = Proxy::to(gap.base.port()).await.unwrap();
        let head = Proxy::to(gap.head.port()).await.unwrap();
        Self { gap, base, head, folder: tempfile::tempdir().unwrap() }
    }

    /// `deltacompare run`, of a new recovery or of one that broke off.
    fn program(&self, resume: Option<&str>) -> Program {
        let sink = format!("ndjson:{}", self.folder.path().join("events").display());
        let report = self.report().display().to_string();
        let mut arguments = vec!["run", "--lease-seconds", "2", "--report", &report];
        match resume {
            Some(id) => arguments.extend(["--resume", id]),
            None => {
                arguments.extend(["--sink", &sink, "--format", "landing", "--strategy", "full"])
            }
        }
        let url = |server: &Server, proxy: &Proxy| {
            let (user, password) = (Role::Admin.name(), server.password(Role::Admin));
            let (host, port, database) = (server.host(), proxy.port(), server.database());
            format!("postgres://{user}:{password}@{host}:{port}/{database}?sslmode=disable")
        };
        deltacompare(&self.gap, &arguments)
            .env("DELTACOMPARE_BASE", &url(&self.gap.base, &self.base))
            .env("DELTACOMPARE_HEAD", &url(&self.gap.head, &self.head))
    }

    fn report(&self) -> std::path::PathBuf {
        self.folder.path().join("report")
    }

    /// Waits until the large table is being compared, and a moment more.
    async fn is_busy(&self) {
        let busy = "select exists (select from deltacompare.work_item \
            where state = 'running' and table_name = 'big')";
        until(&self.gap, busy).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// A new recovery meets trouble in its middle. It completes, at the latest when it is resumed.
    async fn survives(&self, trouble: impl AsyncFnOnce()) {
        let mut program = self.program(None);
        let worker = program.spawn();
        self.is_busy().await;
        trouble().await;
        let ended = tokio::time::timeout(Duration::from_secs(120), worker.wait_with_output());
        let output = ended.await.expect("it hangs").unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        println!("{:?}\n{said}", output.status.code());
        if !output.status.success() {
            let id = said.lines().find_map(|line| line.strip_prefix("recovery ")).unwrap().trim();
            assert!(said.contains("--resume"), "it does not say how to go on: {said}");
            self.program(Some(id)).run().await.assert_completed();
        }
        let events = Events::read(&self.folder.path().join("events"));
        // What was sent twice is counted once.
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.report()).unwrap()).unwrap();
        let totals = &report["totals"];
        let counted: u64 = ["inserts", "updates", "deletes"]
            .iter()
            .map(|count| totals[count].as_u64().unwrap())
            .sum();
        assert_eq!(counted as usize, events.by_id().len(), "{report:#}");
        assert_events_turn_base_into_head(&self.gap, &TABLES, &events).await;
        assert_eq!(leftovers(&self.gap).await, Vec::<String>::new());
        std::fs::remove_file(self.folder.path().join("events")).unwrap();
        self.gap.head.sql("drop schema deltacompare cascade").await.unwrap();
    }
}

async fn connections_that_break_lose_nothing() {
    let recovery = Recovery::new(Gap::between(SCHEMA, GAP).await).await;
    recovery.survives(async || recovery.base.drop_connections()).await;
    recovery.survives(async || recovery.head.drop_connections()).await;
    recovery
        .survives(async || {
            recovery.base.cut();
            recovery.head.cut();
            tokio::time::sleep(Duration::from_secs(3)).await;
            recovery.base.heal();
            recovery.head.heal();
        })
        .await;
}

async fn a_network_that_stands_still_longer_than_a_lease_loses_nothing() {
    let recovery = Recovery::new(Gap::between(SCHEMA, GAP).await).await;
    recovery
        .survives(async || {
            recovery.base.stall();
            recovery.head.stall();
            tokio::time::sleep(Duration::from_secs(4)).await;
            recovery.base.heal();
            recovery.head.heal();
        })
        .await;
    // What was held back never comes.
    recovery
        .survives(async || {
            recovery.base.stall();
            recovery.head.stall();
            tokio::time::sleep(Duration::from_secs(4)).await;
            recovery.base.drop_connections();
            recovery.head.drop_connections();
        })
        .await;
}

async fn base_or_head_may_be_restarted() {
    let gap = Gap::own(Options::default(), SCHEMA, GAP).await;
    let recovery = Recovery::new(gap).await;
    for server in [&recovery.gap.base, &recovery.gap.head] {
        recovery
            .survives(async || {
                server.stop(StopMode::Fast).await.unwrap();
                server.start().await.unwrap();
            })
            .await;
    }
}

tests! {
    connections_that_break_lose_nothing,
    a_network_that_stands_still_longer_than_a_lease_loses_nothing,
    base_or_head_may_be_restarted: own_servers,
}
