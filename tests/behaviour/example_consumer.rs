//! The example consumer, on a third restore that stands where downstream stood.

use std::path::Path;
use std::time::{Duration, Instant};

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions, OfficialClient};
use deltacompare_testbed::{Postgres, Production, Role, Server, python};
use tokio::process::{Child, Command};

use crate::support::{Gap, State, TableName, deltacompare};

const CONSUMER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/examples/landing_consumer/landing_consumer.py");

/// The consumer's target.
fn onto<'a>(command: &'a mut Command, server: &Server, database: &str) -> &'a mut Command {
    let role = Role::Superuser;
    command
        .env("PGHOST", server.host())
        .env("PGPORT", server.port().to_string())
        .env("PGDATABASE", database)
        .env("PGUSER", role.name())
        .env("PGPASSWORD", server.password(role))
}

/// Runs the consumer on a database of a server; yields what it said if it failed.
pub(crate) async fn consume(server: &Server, database: &str, events: &Path) -> Result<(), String> {
    let mut consumer = Command::new(python().unwrap());
    let output = onto(consumer.arg(CONSUMER).arg(events), server, database).output().await.unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Begins to read a hub, for ever.
fn consume_hub(server: &Server, hub: &EventHubs) -> Child {
    let mut consumer = OfficialClient::script(Path::new(CONSUMER)).unwrap();
    consumer
        .args(["--event-hub", "orders"])
        .env("EVENT_HUB_CONNECTION_STRING", hub.emulator_connection_string());
    onto(&mut consumer, server, "shop").spawn().unwrap()
}

const SHOP: &str = r#"
    create type pair as (n int, t text);
    create table customer (id int primary key, login text not null unique, note text);
    create table orders (
      id int primary key, customer int not null references customer, pair pair, total numeric
    );
    create table line (
      order_id int references orders on delete cascade, product text, amount float8,
      primary key (order_id, product)
    );
    create table staff (id int primary key, deputy int not null unique deferrable references staff);
    create table log (at timestamptz, message text, raw json);
    alter table log replica identity full;
    create table "Odd %s ""name""" (
      "the key%" numeric primary key, "select" bytea, n int generated always as identity,
      twice int generated always as (3) stored
    );
    create table measured (id int, day date, v text, primary key (id, day)) partition by range (day);
    create table measured_1 partition of measured for values from ('2026-01-01') to ('2026-02-01');
    create table measured_2 partition of measured for values from ('2026-02-01') to ('2026-03-01');
    create publication shop for all tables with (publish_via_partition_root = true);
    insert into customer select i, 'login ' || i from generate_series(1, 40) i;
    insert into orders select i, i, row(i, 'x,"y"')::pair, i * 1.10 from generate_series(1, 40) i;
    insert into line select i, 'p' || j, j / 3.0 from generate_series(1, 40) i, generate_series(1, 3) j;
    insert into staff select i, i from generate_series(1, 6) i;
    insert into log select '2026-01-01Z'::timestamptz + i / 3 * interval '1 s', 'm', '{"a" : 1, "a":2}'
      from generate_series(1, 30) i;
    insert into "Odd %s ""name""" select i * 1.0, '\x00ff' from generate_series(1, 9) i;
    insert into measured select i, '2026-01-01'::date + i, 'v' from generate_series(1, 50) i;
"#;

const GAP: &str = r#"
    begin;
    update customer set login = 'tmp' where id = 1;
    update customer set login = 'login 1' where id = 2;
    update customer set login = 'login 2' where id = 1;
    commit;
    insert into customer values (41, 'new', null);
    insert into orders values (41, 41, null, '1e100'), (42, 3, row(null, null), 'NaN');
    insert into line values (41, 'p', 'Infinity'), (42, 'p', '-0');
    delete from line where order_id = 5; delete from orders where id = 5; delete from customer where id = 5;
    update customer set login = 'login 5' where id = 6;
    update orders set customer = 7 where id = 8;
    delete from customer where id = 8;
    begin; set constraints all deferred;
    update staff set deputy = deputy % 6 + 1;
    commit;
    insert into log select at, message, raw from log limit 4;
    delete from log where ctid in (select ctid from log order by at desc limit 5);
    insert into log values (null, null, null);
    update "Odd %s ""name""" set "the key%" = 3.00 where "the key%" = 3;
    update "Odd %s ""name""" set "select" = null where "the key%" = 4;
    insert into "Odd %s ""name""" values (100, '\xdeadbeef');
    update measured set day = day + 31 where id between 10 and 20;
    delete from measured where id = 40;
"#;

const TABLES: [&str; 7] =
    ["customer", "orders", "line", "staff", "log", r#""Odd %s ""name""""#, "measured"];

/// A gap, and a third restore that stands where downstream stood.
async fn story() -> (Gap, Server) {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Default::default()).await.unwrap();
    production.sql(SHOP).await.unwrap();
    production.base_backup().await.unwrap();
    let lost = production.restore_point("lost").await.unwrap();
    production.sql(GAP).await.unwrap();
    let back = production.restore_point("back").await.unwrap();
    let (base, head, downstream) = tokio::try_join!(
        production.restore(&lost),
        production.restore(&back),
        production.restore(&lost)
    )
    .unwrap();
    (Gap::of(base, head).await, downstream)
}

async fn downstream_ends_equal_to_production_however_often_it_is_told() {
    let (gap, downstream) = story().await;
    let run = deltacompare(
        &gap,
        &[
            "run",
            "--format",
            "landing",
            "--before",
            "full",
            "--sink",
            "ndjson:{dir}/events",
            "--ndjson-keys",
            "--debezium=tombstones.on.delete=true",
        ],
    )
    .run()
    .await;
    run.assert_completed();
    let all = std::fs::read_to_string(run.file("events")).unwrap();
    let lines: Vec<&str> = all.lines().collect();
    let written = |name: &str, lines: &[&str]| {
        let path = run.file(name);
        std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>())
            .unwrap();
        path
    };

    // Half of the events arrive, the other half with repeats, and then all of them again; against
    // every constraint's liking: last things first.
    let backwards: Vec<&str> = lines.iter().rev().copied().collect();
    let middle = backwards.len() / 2;
    let half = written("half", &backwards[..middle]);
    // Constraints may leave some of them waiting.
    if let Err(said) = consume(&downstream, "shop", &half).await {
        assert!(said.contains("are in landing.parked"), "{said}");
    }
    consume(&downstream, "shop", &written("rest", &backwards[middle / 2..])).await.unwrap();
    for again in 0..2 {
        consume(&downstream, "shop", &run.file("events")).await.unwrap();
        for table in TABLES.map(TableName::of) {
            let (is, should) =
                (State::of(&downstream, &table).await, State::of(&gap.head, &table).await);
            assert_eq!(is, should, "{table}, time {again}");
        }
    }
    let parked: i64 = downstream.value("select count(*) from landing.parked").await.unwrap();
    assert_eq!(parked, 0);
}

/// Out of an event hub, by Microsoft's client. The consumer is killed once it has begun, begins again
/// at the start, and reads the recovery twice.
async fn it_reads_an_event_hub_and_may_be_killed() {
    let (gap, downstream) = story().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let (sink, endpoint) = (hub.sink(), hub.endpoint());
    let arguments = ["run", "--format", "landing", "--before", "full", "--sink", &sink];
    let arguments = [&arguments[..], &["--event-hub-endpoint", &endpoint]].concat();
    let run = deltacompare(&gap, &arguments)
        .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", &hub.connection_string())
        .run()
        .await;
    run.assert_completed();
    assert!(hub.stored() > 40, "{}", hub.stored());

    let mut killed = consume_hub(&downstream, &hub);
    let since = Instant::now();
    let begun = "select count(*) from pg_stat_user_tables
                  where schemaname = 'landing' and relname = 'version' and n_tup_ins > 0";
    while downstream.value::<i64>(begun).await.unwrap() == 0 {
        assert!(killed.try_wait().unwrap().is_none(), "the consumer ended");
        assert!(since.elapsed() < Duration::from_secs(60), "nothing was applied");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill().await.unwrap();

    let mut consumer = consume_hub(&downstream, &hub);
    let since = Instant::now();
    for table in TABLES.map(TableName::of) {
        let should = State::of(&gap.head, &table).await;
        loop {
            let is = State::of(&downstream, &table).await;
            if is == should {
                break;
            }
            if since.elapsed() > Duration::from_secs(60) {
                assert_eq!(is, should, "{table}");
            }
            assert!(consumer.try_wait().unwrap().is_none(), "the consumer ended");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // It reads on, and what it read does not come again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(consumer.try_wait().unwrap().is_none(), "the consumer ended");
    for table in TABLES.map(TableName::of) {
        assert_eq!(State::of(&downstream, &table).await, State::of(&gap.head, &table).await);
    }
    let parked: i64 = downstream.value("select count(*) from landing.parked").await.unwrap();
    assert_eq!(parked, 0);
}

tests! {
    downstream_ends_equal_to_production_however_often_it_is_told: own_servers,
    it_reads_an_event_hub_and_may_be_killed: own_servers,
}
