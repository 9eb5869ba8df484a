//! A handler that dies at any write of a recovery, one after the other: its plan and the objects that
//! the plan needs, claims, events, checkpoints, results, the end, and clean-up. Nothing is lost,
//! nothing is left, and no item is stuck.

use std::time::{Duration, Instant};

use deltacompare_testbed::{Connection, Options, Server};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::functions_faults::{TABLES, assert_whole_of, changes, request, schema, start};
use crate::support::{Gap, Hosted, hold_the_sink, until, waiting_for_the_sink};

/// Steps of 8192 rows, so that there are checkpoints.
async fn gap() -> Gap {
    Gap::between(&schema(20_000), &changes(70)).await
}

/// The advisory lock that a worker meets at the chosen write.
const GATE: i32 = 77;

/// Each test takes one write in so many.
const TESTS: i32 = 6;

macro_rules! at_writes {
    ($($name:ident $first:literal),*; $stored:literal) => {
        $(
            async fn $name() {
                super::die_at_writes($first, $stored).await;
            }
        )*
        tests! { $($name: kills seconds(900)),* }
    };
}

/// The handler dies while a transaction ends, so that the write is stored and nobody hears of it.
mod stored {
    at_writes! { first 1, second 2, third 3, fourth 4, fifth 5, sixth 6; true }
}

/// It dies before the transaction ends, and the write is not stored.
mod not_stored {
    at_writes! { first 1, second 2, third 3, fourth 4, fifth 5, sixth 6; false }
}

/// How long to go on drawing kills; without it, three are drawn.
fn kill_seconds() -> Option<u64> {
    let text = std::env::var("DELTACOMPARE_KILL_SECONDS").ok()?;
    Some(text.parse().expect("DELTACOMPARE_KILL_SECONDS"))
}

/// Some of the kills, by a seed that is printed; `DELTACOMPARE_TEST_SEED` draws the same again.
async fn drawn_at_random() {
    let seed: u64 = std::env::var("DELTACOMPARE_TEST_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().expect("DELTACOMPARE_TEST_SEED"));
    std::println!("kills are drawn by DELTACOMPARE_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let gap = gap().await;
    let app = start(&gap, 1, &[]).await;
    count_writes(&gap.head).await;
    assert!(!dies_at(&gap, &app, i32::MAX, true).await);
    let writes = gap.head.value::<i64>("select last_value from public.writes").await.unwrap();
    assert!(writes > 20, "only {writes} writes");
    let since = Instant::now();
    for drawn in 0.. {
        let ended = match kill_seconds() {
            Some(seconds) => since.elapsed() > Duration::from_secs(seconds),
            None => drawn == 3,
        };
        if ended {
            break;
        }
        let (write, stored) = (dice.random_range(1..=writes), dice.random_bool(0.5));
        println!("write {write}, stored: {stored}");
        dies_at(&gap, &app, i32::try_from(write).unwrap(), stored).await;
    }
}

async fn die_at_writes(first: i32, stored: bool) {
    let gap = gap().await;
    let app = start(&gap, 1, &[]).await;
    count_writes(&gap.head).await;
    let mut write = first;
    while dies_at(&gap, &app, write, stored).await {
        write += TESTS;
    }
    // The plan alone is more than these.
    assert!(write > 2 * TESTS, "only {write} writes");
}

/// A recovery whose handler dies at this write. Says whether there were so many.
async fn dies_at(gap: &Gap, app: &Hosted, write: i32, stored: bool) -> bool {
    let begun = Instant::now();
    let gate = gate(&gap.head).await;
    let lock = format!(
        "select pg_advisory_lock({GATE}); alter sequence public.writes restart;
         alter function public.gate() set gate.write = {write}"
    );
    gate.sql(&lock).await.unwrap();
    let waiting = format!("l.locktype = 'advisory' and l.objid = {GATE}");
    let key = Uuid::new_v4().to_string();
    // The handler may die before it has answered the request.
    let (id, met) = tokio::join!(begin_in_the_end(app, &key), async {
        let recovery = format!("idempotency_key = '{key}'");
        let met = met(gap, app, &recovery, &gap.head, &waiting).await;
        if let Some(session) = &met {
            kill(app, &gap.head, session, stored).await;
        }
        gate.close().await.unwrap();
        met
    });
    assert_whole_of(gap, app, &id, &TABLES).await;
    eprintln!("write {write}: {:.1} s, {met:?}", begun.elapsed().as_secs_f64());
    met.is_some()
}

/// Begins a recovery as whoever asks has to: repeats the request, with the same key, until it is
/// answered.
async fn begin_in_the_end(app: &Hosted, key: &str) -> String {
    for _ in 0..20 {
        let request = app.request(Method::POST, "/api/recoveries").json(&whole_tables());
        let answer = request.header("idempotency-key", key).send().await.unwrap();
        if answer.status() == 202 {
            let begun: Value = answer.json().await.unwrap();
            return begun["id"].as_str().unwrap().to_owned();
        }
        assert!(answer.status().is_server_error(), "{answer:?}\n{}", app.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the request is never answered\n{}", app.said());
}

/// A session that a recovery does not take for somebody who may have written.
async fn gate(on: &Server) -> Connection {
    let gate = on.connect().await.unwrap();
    gate.sql("set application_name = 'deltacompare gate'").await.unwrap();
    gate
}

fn whole_tables() -> Value {
    let mut request = request("content");
    request["range_blocks"] = json!(100_000);
    request
}

/// A session that waits for a lock.
#[derive(Debug)]
struct Waiting {
    pid: i32,
    /// What it is at.
    query: String,
}

/// Waits until somebody waits for a lock on this server, or the recovery is over and done with.
async fn met(gap: &Gap, app: &Hosted, recovery: &str, on: &Server, lock: &str) -> Option<Waiting> {
    let since = Instant::now();
    let over = format!(
        "select exists (select from deltacompare.recovery where {recovery} and cleaned_at is not null)"
    );
    let waiting = format!(
        "select l.pid, a.application_name || ': ' || left(a.query, 60)
           from pg_locks l join pg_stat_activity a using (pid)
          where {lock} and not l.granted and a.datname = current_database()"
    );
    let (there, head) = (gate(on).await, gate(&gap.head).await);
    loop {
        let found = there.rows::<(i32, String)>(&waiting, &[]).await.unwrap().pop();
        let over: bool = head.value(&over, &[]).await.unwrap();
        if over || found.is_some() {
            there.close().await.unwrap();
            head.close().await.unwrap();
            return found.map(|(pid, query)| Waiting { pid, query });
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{}", app.said());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The handler dies; unless what it waits for is to be stored, its session dies with it.
async fn kill(app: &Hosted, on: &Server, waiting: &Waiting, stored: bool) {
    let handler = app.host.handler_pid(1).unwrap().to_string();
    let killed = std::process::Command::new("kill").args(["-KILL", &handler]).status();
    assert!(killed.unwrap().success());
    if !stored {
        on.sql(format!("select pg_terminate_backend({}, 5000)", waiting.pid)).await.unwrap();
    }
}

/// What a recovery creates and drops on the servers, by the catalog that it is in.
const ON_HEAD: [&str; 4] =
    ["pg_namespace", "pg_foreign_server", "pg_user_mapping", "pg_foreign_table"];
const ON_BASE: [&str; 1] = ["pg_authid"];

async fn a_planner_that_dies_at_any_object_leaves_none() {
    die_at_objects(false).await;
}

async fn a_clean_up_that_dies_at_any_object_leaves_none() {
    die_at_objects(true).await;
}

async fn die_at_objects(dropped: bool) {
    let gap = Gap::own(Options::default(), &schema(20_000), &changes(70)).await;
    let app = start(&gap, 1, &[]).await;
    let on_head = ON_HEAD.map(|catalog| (&gap.head, catalog));
    for (number, (server, catalog)) in
        on_head.into_iter().chain([(&gap.base, ON_BASE[0])]).enumerate()
    {
        let begun = Instant::now();
        let mut gate = gate(server).await;
        let lock = format!("begin; lock table pg_catalog.{catalog} in share mode");
        let held = if dropped { Some(hold_the_sink(&gap).await) } else { None };
        if !dropped {
            gate.sql(&lock).await.unwrap();
        }
        let id = app.begin(&whole_tables()).await;
        let recovery = format!("id = '{id}'");
        if let Some(held) = held {
            until(&gap, &waiting_for_the_sink(1)).await;
            gate.sql(&lock).await.unwrap();
            held.close().await.unwrap();
        }
        let waiting = format!("l.relation = 'pg_catalog.{catalog}'::regclass");
        let mut waits =
            met(&gap, &app, &recovery, server, &waiting).await.expect("it came by the gate");
        // What the preflight tries it takes back by itself. Whoever comes next is met, too.
        while waits.query.starts_with("deltacompare preflight") {
            let next = self::gate(server).await;
            let (locked, ()) = tokio::join!(next.sql(&lock), async {
                let both =
                    format!("select count(*) > 1 from pg_locks l where {waiting} and not granted");
                while !server.value::<bool>(both.clone()).await.unwrap() {}
                gate.close().await.unwrap();
            });
            locked.unwrap();
            gate = next;
            waits =
                met(&gap, &app, &recovery, server, &waiting).await.expect("it came by the gate");
        }
        kill(&app, server, &waits, number % 2 == 0).await;
        gate.close().await.unwrap();
        assert_whole_of(&gap, &app, &id, &TABLES).await;
        eprintln!("{catalog}: {:.1} s, {waits:?}", begun.elapsed().as_secs_f64());
    }
}

/// Counts what our sessions write on head: at the end of their transactions that change the status;
/// each statement that stores events or makes or drops objects. The one whose number is the gate's
/// waits there. Leases that are only renewed do not count: when and how often depends on the time.
async fn count_writes(head: &Server) {
    let status = |table: &str, when: &str| {
        format!(
            "create constraint trigger gate after {when} on deltacompare.{table}
               deferrable initially deferred for each row execute function public.gate();"
        )
    };
    head.sql(format!(
        "create sequence public.writes;
         create function public.gate() returns trigger
           language plpgsql security definer set lock_timeout = 0 set gate.write = 0 as $$
           begin
             if tg_op = 'UPDATE' and tg_table_name = 'work_item' then
               if old.state = new.state and old.attempt = new.attempt
                  and old.checkpoint is not distinct from new.checkpoint
                  and old.sent_at is not distinct from new.sent_at then
                 return null;
               end if;
             end if;
             if nextval('public.writes') = current_setting('gate.write')::int8 then
               perform pg_advisory_xact_lock_shared({GATE});
             end if;
             return null;
           end $$;
         {}{}
         create trigger gate after insert on deltacompare.delta
           for each statement execute function public.gate()",
        status("recovery", "insert or update"),
        status("work_item", "insert or update"),
    ))
    .await
    .unwrap();
}

tests! {
    [stored, not_stored]
    drawn_at_random: seconds(300 + kill_seconds().unwrap_or(0)),
    a_planner_that_dies_at_any_object_leaves_none: own_servers kills seconds(600),
    a_clean_up_that_dies_at_any_object_leaves_none: own_servers kills seconds(600),
}
