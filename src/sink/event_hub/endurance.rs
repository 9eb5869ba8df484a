//! The sink alone against the stand-in, for long and as fast as it goes, which takes minutes:
//! `cargo test --release --workspace --lib endurance -- --ignored --nocapture --test-threads 1`. What it
//! showed is in docs/benchmarks.md.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deltacompare_testbed::event_hubs::{EventHubs, Faults, HubOptions, Keep};
use tokio::runtime::Runtime;

use super::*;
use crate::model::{Op, TableName};
use crate::postgres::{Server, Side};
use crate::secrets::{Fixed, Origin};

/// Taken over at once by a call of the sink.
const AT_ONCE: usize = 500;

/// A stand-in and a sink, each with threads of its own, so that it can be told who took which time.
struct Bench {
    hub: EventHubs,
    sink: Arc<EventHub>,
    _standin: Runtime,
    producer: Runtime,
}

fn runtime(name: &str) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

impl Bench {
    fn new(options: HubOptions) -> Self {
        let (standin, producer) = (runtime("standin"), runtime("producer"));
        let hub = standin.block_on(standin.spawn(EventHubs::start(options))).unwrap().unwrap();
        let address = hub.sink().strip_prefix("event-hub:").unwrap().parse().unwrap();
        let access = EventHubAccess {
            endpoint: Some(hub.endpoint()),
            authority: None,
            connection_string: Some(ConnectionStringSource {
                origin: Origin::Environment("ENDURANCE"),
                source: Arc::new(Fixed(hub.connection_string().into())),
            }),
            identity: AzureIdentity::default(),
            stall_timeout: Duration::from_secs(120),
        };
        let sink = producer.block_on(async {
            let nowhere = Server::parse(Side::Head, "postgres://nobody@127.0.0.1:1/none", None);
            let nowhere = nowhere.unwrap().lazy_pool("nowhere", 1).unwrap();
            let options = EventHubOptions::default();
            let recovery = Uuid::from_u128(1);
            let at = Timestamp::UNIX_EPOCH;
            let began = async |found| Ok(found);
            let opened =
                EventHub::open(&access, &address, &options, recovery, at, nowhere, began).await;
            opened.unwrap().0
        });
        Self { hub, sink: Arc::new(sink), _standin: standin, producer }
    }

    /// Sends so many events of 500 bytes from four tasks, as four work items do.
    fn send(&self, events: usize) {
        self.producer.block_on(async {
            let mut senders = tokio::task::JoinSet::new();
            for worker in 0..4 {
                let sink = Arc::clone(&self.sink);
                senders.spawn(async move {
                    let mut at = worker * events / 4;
                    while at < (worker + 1) * events / 4 {
                        let to = (at + AT_ONCE).min((worker + 1) * events / 4);
                        let chunk: Vec<Event> = (at..to).map(event).collect();
                        sink.write(&chunk).await.unwrap();
                        at = to;
                    }
                    sink.flush().await.unwrap();
                });
            }
            while let Some(sender) = senders.join_next().await {
                sender.unwrap();
            }
        });
    }
}

/// The id of the event of this number, from which the number can be read again.
fn id(number: usize) -> u128 {
    (0x5eed << 64) | number as u128
}

/// Which of so many events the stand-in has stored. A bit an event, so that what is measured here is
/// the memory of the sink and not the test's.
struct Seen {
    bits: Vec<u64>,
    events: usize,
}

impl Seen {
    fn none_of(events: usize) -> Self {
        Self { bits: vec![0; events.div_ceil(64)], events }
    }

    /// Adds what was stored since the last call. A batch whose answer was lost may come again late.
    fn add(&mut self, stored: HashSet<u128>) {
        for it in stored {
            let number = it as u64 as usize;
            assert!(
                id(number) == it && number < self.events,
                "{it:x} is an event that nobody sent"
            );
            self.bits[number / 64] |= 1 << (number % 64);
        }
    }

    /// How many of the events from the first on are there, up to the first that is missing.
    fn without_a_gap(&self) -> usize {
        (0..self.events)
            .find(|number| self.bits[number / 64] >> (number % 64) & 1 == 0)
            .unwrap_or(self.events)
    }
}

static ORDERS: LazyLock<Arc<TableName>> =
    LazyLock::new(|| Arc::new(TableName { schema: "public".into(), name: "orders".into() }));

fn event(number: usize) -> Event {
    let mut body = Vec::with_capacity(500);
    body.extend_from_slice(format!("{{\"id\":{number},\"v\":\"").as_bytes());
    body.resize(498, b'x');
    body.extend_from_slice(b"\"}");
    // As the encoder has them: of exact size, and one name for all.
    Event {
        id: Uuid::from_u128(id(number)),
        op: Op::Update,
        table: Arc::clone(&ORDERS),
        key: Some(Bytes::copy_from_slice(format!("{{\"id\":{number}}}").as_bytes())),
        body: Bytes::copy_from_slice(&body),
    }
}

/// Seconds of CPU that this process's threads took, by their names.
fn cpu() -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    for thread in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(thread.path().join(file));
        let (Ok(name), Ok(stat)) = (read("comm"), read("stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // utime and stime, in hundredths of a second.
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        *seconds.entry(name.trim().to_owned()).or_default() += ticks / 100.0;
    }
    seconds
}

fn resident_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Nothing lost, nothing made up, and memory as it was after the first quarter.
fn endure(events: usize, least_batches: u64, options: HubOptions, faults: Option<Faults>) {
    let bench = Bench::new(HubOptions { keep: Keep::Ids, ..options });
    if let Some(faults) = faults {
        bench.hub.inject(faults);
    }
    let began = Instant::now();
    let mut seen = Seen::none_of(events);
    let quarters: Vec<u64> = (1..=4)
        .map(|quarter| {
            let (mut at, end) = ((quarter - 1) * events / 4, quarter * events / 4);
            bench.producer.block_on(async {
                while at < end {
                    let to = (at + AT_ONCE).min(end);
                    let chunk: Vec<Event> = (at..to).map(event).collect();
                    bench.sink.write(&chunk).await.unwrap();
                    seen.add(bench.hub.take_ids());
                    at = to;
                }
                bench.sink.flush().await.unwrap();
            });
            seen.add(bench.hub.take_ids());
            assert_eq!(seen.without_a_gap(), end, "the first that is missing, or came too early");
            resident_megabytes()
        })
        .collect();
    let (batches, connections, tokens) = bench.hub.counts();
    println!(
        "{events} events, {} stored, {batches} batches, {connections} connections, {tokens} tokens, \
         {:.0} s; resident after each quarter: {quarters:?} MB",
        bench.hub.stored(),
        began.elapsed().as_secs_f64()
    );
    assert!(batches >= least_batches, "{batches}");
    assert!(quarters[3] <= quarters[0] + 8, "{quarters:?}");
}

#[test]
#[ignore = "takes minutes; see the first lines of the file"]
fn a_hundred_thousand_batches_without_a_fault() {
    let options = HubOptions { largest_message: 3_300, ..HubOptions::default() };
    endure(320_000, 100_000, options, None);
}

#[test]
#[ignore = "takes minutes; see the first lines of the file"]
fn every_fault_at_random_intervals() {
    let options = HubOptions { largest_message: 40_000, ..HubOptions::default() };
    endure(2_000_000, 40_000, options, Some(Faults::random(7, 40)));
}

#[test]
#[ignore = "takes minutes; see the first lines of the file"]
fn events_a_second() {
    const EVENTS: usize = 1_000_000;
    let bench = Bench::new(HubOptions { keep: Keep::Count, ..HubOptions::default() });
    bench.send(50_000);
    let (before, began) = (cpu(), Instant::now());
    bench.send(EVENTS);
    let took = began.elapsed().as_secs_f64();
    assert_eq!(bench.hub.stored(), 50_000 + EVENTS as u64);
    println!("{EVENTS} events of 500 bytes in {took:.2} s: {:.0} a second", EVENTS as f64 / took);
    for (thread, seconds) in cpu() {
        let seconds = seconds - before.get(&thread).unwrap_or(&0.0);
        println!(
            "{thread}: {seconds:.2} s of CPU, {:.2} µs an event",
            seconds * 1e6 / EVENTS as f64
        );
    }
}
