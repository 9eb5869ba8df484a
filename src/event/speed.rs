//! How fast one core encodes:
//! `cargo nextest run --release --profile speed --workspace --lib`

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::encoder::Encoder;
use super::settings::Format;
use super::testing::{change, column, image, settings, table};
use crate::catalog::{Key, ReplicaIdentity};
use crate::diff::RowChange;

#[test]
fn events_a_second() {
    let mut amount = column("amount", "numeric", 1700);
    amount.typmod = (10 << 16 | 2) + 4;
    let columns = vec![
        column("id", "int8", 20),
        column("customer", "text", 25),
        amount,
        column("placed_at", "timestamptz", 1184),
        column("paid", "bool", 16),
        column("note", "text", 25),
    ];
    let table = table(columns, Key::Columns(vec![0]), ReplicaIdentity::Default);
    let row = |note| {
        image(&[
            Some("123456789"),
            Some("Zoë Washburne"),
            Some("1234.50"),
            Some("2024-02-29 12:34:56.789012+00"),
            Some("t"),
            Some(note),
        ])
    };
    let before = row("to be delivered to the back door");
    let after = row("delivered \"at\" the back door");
    let update = change(RowChange::Update { before, after });
    for format in [Format::Landing, Format::Debezium] {
        let mut encoder = Encoder::new(&settings(format), &table, &table.columns);
        let bytes = encoder.encode(&update).unwrap().body.len();
        // The best of several rounds: the machine has other things to do.
        let best = (0..10)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..200_000 {
                    black_box(encoder.encode(black_box(&update)).unwrap());
                }
                start.elapsed()
            })
            .min()
            .unwrap_or(Duration::ZERO);
        let rate = 200_000.0 / best.as_secs_f64();
        println!("{format:?}: {rate:.0} events/s of {bytes} bytes");
    }
}
