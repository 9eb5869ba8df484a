//! The engine's transitions, each driven by both drivers: the command line and the app.
//!
//! | state | what happens | what follows | test |
//! |---|---|---|---|
//! | planning | the process dies while the plan is stored | it is planned again, and completes | `dies_while_it_plans` |
//! | running | the process dies with an item at work | another attempt takes the item over, and it completes | `dies_at_an_item` |
//! | running | an item's sessions are ended | it is tried again, and completes | `loses_its_sessions` |
//! | running | an item fails | the others complete, and it has failed | `an_item_fails` |
//! | failed | it is tried again | what had failed alone is done again, and it completes | `an_item_fails` |
//! | running, all items ended | the process dies while the result is proved | it is proved again, and completes | `dies_while_it_proves` |
//! | completed | the process dies while it cleans up | whoever comes next cleans up | `dies_while_it_cleans_up` |
//! | running | it is cancelled | nobody works on it any more, and nothing is left | `is_cancelled` |
//! | cancelled | it is tried again | it stays cancelled | `is_cancelled` |

use std::time::{Duration, Instant};

use deltacompare_testbed::Connection;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::functions_faults::start;
use crate::support::{
    Events, Gap, Hosted, assert_events_turn_base_into_head, deltacompare, hold, hold_the_sink,
    leftovers, until, waiting_for, waiting_for_the_sink,
};

const SHOP: &str = "
    create table orders (id int primary key, v text);
    create table log (line text);
    alter table log replica identity full;
    insert into orders select i, 'v' from generate_series(1, 3000) i;
    insert into log select 'l' || i from generate_series(1, 300) i;
    create publication shop for all tables";

const GAP: &str = "
    update orders set v = 'w' where id % 7 = 0;
    delete from orders where id % 31 = 0;
    insert into log values ('m');
    delete from log where line = 'l3'";

const TABLES: [&str; 2] = ["orders", "log"];

/// What drives the recovery of a test.
#[derive(Clone, Copy)]
enum Driver {
    CommandLine,
    App,
}

/// A recovery that is driven. It reads through foreign tables, so that it has objects on both servers.
struct Driven {
    gap: Gap,
    by: By,
    id: String,
}

enum By {
    CommandLine(Child),
    App(Box<Hosted>),
}

/// A process of the command line, at work.
fn run(gap: &Gap, arguments: &[&str]) -> By {
    let run = [&["run", "--lease-seconds", "1"], arguments].concat();
    By::CommandLine(deltacompare(gap, &run).spawn())
}

impl Driven {
    /// Begins a recovery.
    async fn begin(driver: Driver, gap: Gap) -> Self {
        let (by, id) = match driver {
            Driver::CommandLine => {
                let sink = ["--sink", "delta-table", "--format", "landing"];
                let by = run(&gap, &[&sink[..], &["--strategy", "full"]].concat());
                until(&gap, "select exists (select from deltacompare.recovery)").await;
                (by, gap.head.value("select id::text from deltacompare.recovery").await.unwrap())
            }
            Driver::App => {
                let app = Box::new(start(&gap, 1, &[]).await);
                let sink =
                    json!({"sinks": ["delta-table"], "format": "landing", "strategy": "full"});
                let id = app.begin(&sink).await;
                (By::App(app), id)
            }
        };
        Self { gap, by, id }
    }

    /// Its process is killed; then `gate`, which held it, is opened. An operator resumes a run; the
    /// host starts a handler that has died.
    async fn dies(&mut self, gate: Connection) {
        let child = match &mut self.by {
            By::CommandLine(child) => child.id(),
            By::App(app) => app.host.handler_pid(1),
        };
        let pid = child.unwrap().to_string();
        let kill = tokio::process::Command::new("kill").args(["-KILL", &pid]).status().await;
        assert!(kill.unwrap().success());
        gate.close().await.unwrap();
        self.resume().await;
    }

    async fn resume(&mut self) {
        if let By::CommandLine(child) = &mut self.by {
            child.wait().await.unwrap();
            self.by = run(&self.gap, &["--resume", &self.id]);
        }
    }

    /// Waits until it has ended and is cleaned up, and the command line's process with it, by this
    /// code.
    async fn ends(&mut self, state: &str, code: i32) {
        if let By::CommandLine(child) = &mut self.by {
            assert_eq!(child.wait().await.unwrap().code(), Some(code));
        }
        let cleaned = "select bool_and(cleaned_at is not null) from deltacompare.recovery";
        until(&self.gap, cleaned).await;
        let ended: String =
            self.gap.head.value("select state from deltacompare.recovery").await.unwrap();
        assert_eq!(ended, state);
    }

    /// It completed; its events turn base into head, its counts are theirs, and nothing is left.
    async fn completes(mut self) {
        self.ends("completed", 0).await;
        let Self { gap, by, id } = self;
        drop(by);
        let events = Events::delta_of(&gap.head, &id).await;
        assert_events_turn_base_into_head(&gap, &TABLES, &events).await;
        let counted: i64 = gap
            .head
            .value("select sum(inserts + updates + deletes)::int8 from deltacompare.work_item")
            .await
            .unwrap();
        assert_eq!(counted, events.0.len() as i64);
        assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    }
}

/// A gap on whose head there is a status store already.
async fn gap() -> Gap {
    Gap::between(SHOP, GAP).await.with_status_store("public.log").await
}

async fn attempts(gap: &Gap, table: &str) -> i64 {
    let attempts = "select sum(attempt)::int8 from deltacompare.work_item where table_name";
    gap.head.value(format!("{attempts} = '{table}'")).await.unwrap()
}

async fn dies_while_it_plans(driver: Driver) {
    let gap = gap().await;
    let gate = hold(&gap, "work_item").await;
    let mut driven = Driven::begin(driver, gap).await;
    until(&driven.gap, &waiting_for("work_item", 1)).await;
    driven.dies(gate).await;
    driven.completes().await;
}

async fn dies_at_an_item(driver: Driver) {
    let gap = gap().await;
    let gate = hold_the_sink(&gap).await;
    let mut driven = Driven::begin(driver, gap).await;
    until(&driven.gap, &waiting_for_the_sink(2)).await;
    driven.dies(gate).await;
    driven.ends("completed", 0).await;
    for table in TABLES {
        let attempts = attempts(&driven.gap, table).await;
        assert!(attempts > 1, "{table}: {attempts}");
    }
    driven.completes().await;
}

async fn loses_its_sessions(driver: Driver) {
    let gap = gap().await;
    let gate = hold_the_sink(&gap).await;
    let driven = Driven::begin(driver, gap).await;
    until(&driven.gap, &waiting_for_the_sink(2)).await;
    let ended: i64 = driven
        .gap
        .base
        .value(format!(
            "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
              where application_name = 'deltacompare_' || right('{}', 12)",
            driven.id
        ))
        .await
        .unwrap();
    assert!(ended > 0);
    gate.close().await.unwrap();
    driven.completes().await;
}

async fn an_item_fails(driver: Driver) {
    let gap = gap().await;
    gap.head
        .sql(
            "create function public.no() returns trigger language plpgsql as
               $$ begin raise check_violation using message = 'not orders'; end $$;
             create trigger no before insert on deltacompare.delta for each row
               when (new.table_name = 'orders') execute function public.no()",
        )
        .await
        .unwrap();
    let mut driven = Driven::begin(driver, gap).await;
    driven.ends("failed", 1).await;
    let gap = &driven.gap;
    let failed: Vec<(String, String)> = gap
        .head
        .rows("select table_name, error from deltacompare.work_item where state <> 'completed'")
        .await
        .unwrap();
    let [(table, error)] = &failed[..] else { panic!("{failed:?}") };
    assert!(table == "orders" && error.contains("not orders"), "{failed:?}");
    let before = attempts(gap, "log").await;

    gap.head.sql("drop function public.no() cascade").await.unwrap();
    match &driven.by {
        By::CommandLine(..) => driven.resume().await,
        By::App(app) => {
            let retry = format!("/api/recoveries/{}/retry", driven.id);
            assert_eq!(app.post(&retry, &json!({})).await.status(), 200);
        }
    }
    driven.ends("completed", 0).await;
    assert_eq!(attempts(&driven.gap, "log").await, before, "what had completed was done again");
    driven.completes().await;
}

async fn dies_while_it_proves(driver: Driver) {
    let gap = gap().await;
    let sink = hold_the_sink(&gap).await;
    let mut driven = Driven::begin(driver, gap).await;
    until(&driven.gap, &waiting_for_the_sink(2)).await;
    let gate = hold(&driven.gap, "account").await;
    sink.close().await.unwrap();
    until(&driven.gap, &waiting_for("account", 1)).await;
    driven.dies(gate).await;
    driven.completes().await;
}

/// The lock of [`Driven::id`]'s clean-up.
async fn hold_the_clean_up(driven: &Driven) -> Connection {
    let session = driven.gap.head.connect().await.unwrap();
    let lock = format!(
        "set application_name = 'deltacompare gate';
         select pg_advisory_lock(hashtextextended('deltacompare_' || right('{}', 12), 0))",
        driven.id
    );
    session.sql(&lock).await.unwrap();
    session
}

async fn dies_while_it_cleans_up(driver: Driver) {
    let gap = gap().await;
    let sink = hold_the_sink(&gap).await;
    let mut driven = Driven::begin(driver, gap).await;
    until(&driven.gap, &waiting_for_the_sink(2)).await;
    let gate = hold_the_clean_up(&driven).await;
    sink.close().await.unwrap();
    let cleans_up = "select exists (select from pg_locks l join pg_stat_activity a using (pid)
        where l.locktype = 'advisory' and not l.granted and a.datname = current_database()
          and a.application_name = 'deltacompare clean-up')";
    until(&driven.gap, cleans_up).await;
    let ended: String =
        driven.gap.head.value("select state from deltacompare.recovery").await.unwrap();
    assert_eq!(ended, "completed");
    driven.dies(gate).await;
    driven.completes().await;
}

async fn is_cancelled(driver: Driver) {
    let gap = gap().await;
    let gate = hold_the_sink(&gap).await;
    let mut driven = Driven::begin(driver, gap).await;
    until(&driven.gap, &waiting_for_the_sink(2)).await;
    // Whoever has the app's key cancels, also what the command line drives.
    let another = match driver {
        Driver::CommandLine => Some(start(&driven.gap, 1, &[]).await),
        Driver::App => None,
    };
    let app = match &driven.by {
        By::App(app) => app,
        By::CommandLine(..) => another.as_ref().unwrap(),
    };
    let since = Instant::now();
    let cancel = app.post(&format!("/api/recoveries/{}/cancel", driven.id), &json!({})).await;
    assert_eq!(cancel.status(), 200);
    assert_eq!(cancel.json::<Value>().await.unwrap()["state"], "cancelled");
    // Those that had events in hand are gone.
    until(&driven.gap, &waiting_for_the_sink(0)).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    gate.close().await.unwrap();
    let retry = app.post(&format!("/api/recoveries/{}/retry", driven.id), &json!({})).await;
    assert_eq!(retry.status(), 409);
    if let By::CommandLine(child) = &mut driven.by {
        assert_ne!(child.wait().await.unwrap().code(), Some(0));
        driven.resume().await;
    }
    driven.ends("cancelled", 1).await;
    drop(another);
    let Driven { gap, by, .. } = driven;
    drop(by);
    let events = "select count(*) from deltacompare.delta";
    assert_eq!(gap.head.value::<i64>(events).await.unwrap(), 0);
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

/// Each transition by each driver.
macro_rules! by_both {
    ($($transition:ident),*) => {
        mod command_line {
            $(async fn $transition() {
                super::$transition(super::Driver::CommandLine).await;
            })*
            tests! { $($transition),* }
        }
        mod app {
            $(async fn $transition() {
                super::$transition(super::Driver::App).await;
            })*
            tests! { $($transition),* }
        }
    };
}

by_both!(
    dies_while_it_plans,
    dies_at_an_item,
    loses_its_sessions,
    an_item_fails,
    dies_while_it_proves,
    dies_while_it_cleans_up,
    is_cancelled
);

tests! { [app, command_line] }
