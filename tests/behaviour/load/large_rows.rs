//! Rows that are large themselves: memory is bounded by the largest, however many there are.

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions};

use super::peak;
use crate::support::{Gap, Program, deltacompare};

/// What a process takes besides rows, in kB.
const REST: u64 = 100_000;

/// Rows that print as so many megabytes each, in a keyed table, in one whose text is full of line
/// breaks, in one of bytes, and in one without a key. What compresses well is the harder one: no
/// statistics tell how much it prints as.
async fn gap(megabytes: usize) -> Gap {
    let kept = |count: usize| format!("repeat(md5(i::text), {})", count * 1_000_000 / 32);
    let text = kept(megabytes);
    let lines = format!("repeat(E'0123456789\\n', {})", megabytes * 1_000_000 / 12);
    let bytes = format!("decode({}, 'hex')", kept(megabytes));
    let before = format!(
        "create table texts (id int primary key, n int, v text);
         create table lines (id int primary key, n int, v text);
         create table bytes (id int primary key, n int, v bytea);
         create table keyless (id int, v text);
         alter table keyless replica identity full;
         insert into texts select i, 0, {text} from generate_series(1, 6) i;
         insert into lines select i, 0, {lines} from generate_series(1, 3) i;
         insert into bytes select i, 0, {bytes} from generate_series(1, 3) i;
         insert into keyless select i, {text} from generate_series(1, 3) i;
         create publication large for all tables"
    );
    let during = format!(
        "update texts set v = v || 'x' where id in (2, 3, 5);
         delete from texts where id = 6;
         insert into texts select i, 0, {text} from generate_series(7, 8) i;
         update lines set n = 1 where id < 3;
         update bytes set n = 1 where id < 3;
         update keyless set v = v || 'x' where id = 2"
    );
    Gap::between(&before, &during).await
}

fn program(gap: &Gap, strategy: &str, more: &[&str]) -> Program {
    let arguments = ["run", "--parallel", "1", "--strategy", strategy];
    deltacompare(gap, &[&arguments[..], more].concat())
}

const FILE: &[&str] = &["--sink", "ndjson:{dir}/events"];
const LANDING: &[&str] = &["--sink", "ndjson:{dir}/events", "--format", "landing"];
const DELTA: &[&str] = &["--sink", "delta-table"];

/// What the runs took that took more than they may.
struct Peaks {
    most: u64,
    over: Vec<String>,
}

impl Peaks {
    fn of(megabytes: usize) -> Self {
        Self { most: 4 * megabytes as u64 * 1000 + REST, over: Vec::new() }
    }

    async fn look(&mut self, what: &str, program: Program) {
        let peak = peak(program).await;
        let most = self.most;
        println!("{what}: {peak} kB, {most} kB allowed");
        if peak == 0 || peak > most {
            self.over.push(format!("{what}: {peak} kB"));
        }
    }

    fn assert_bounded(self) {
        assert!(self.over.is_empty(), "{:#?}", self.over);
    }
}

async fn of_48_megabytes() {
    let gap = gap(48).await;
    let mut peaks = Peaks::of(48);
    for (strategy, sink) in [("row-versions", LANDING), ("content", DELTA), ("full", FILE)] {
        peaks.look(strategy, program(&gap, strategy, sink)).await;
    }
    peaks.assert_bounded();
}

async fn of_200_megabytes() {
    let gap = gap(200).await;
    let mut peaks = Peaks::of(200);
    for strategy in ["row-versions", "content", "full"] {
        for sink in [LANDING, DELTA] {
            let what = format!("{strategy} {}", sink.join(" "));
            peaks.look(&what, program(&gap, strategy, sink)).await;
        }
    }
    // A claim check goes to the hub, and the event into the delta table.
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let (sink, endpoint) = (hub.sink(), hub.endpoint());
    let arguments = ["--sink", &sink, "--event-hub-endpoint", &endpoint];
    let into_hub = program(&gap, "row-versions", &arguments)
        .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", &hub.connection_string());
    peaks.look("into a hub", into_hub).await;
    let claims = hub.events().iter().filter(|it| it.properties.contains_key("claim_check")).count();
    assert_eq!(claims, 11);
    peaks.assert_bounded();
}

tests! {
    of_48_megabytes: seconds(600),
    of_200_megabytes: on_demand seconds(3000),
}
