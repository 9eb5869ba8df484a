//! Recovered events and those that the new slot really streams, of the same rows, in every order: a
//! consumer that guards rows by version ends equal to production.

use std::collections::BTreeMap;

use deltacompare_testbed::{Options, Postgres, Production, Server, python};
use serde_json::{Value, json};

use crate::example_consumer::consume;
use crate::support::{Gap, Run, Streamed, deltacompare, read_stream};

/// What may happen to a row in each phase; a row goes through one of all combinations.
const IN_THE_GAP: i32 = 6;
const BEFORE_HEAD: i32 = 5;
const AROUND_HEAD: i32 = 5;
/// In a transaction that is open at head's end, or after head's end.
const IN_FLIGHT: i32 = 2;
const LATER: i32 = 3;
const ROWS: i32 = IN_THE_GAP * BEFORE_HEAD * AROUND_HEAD * IN_FLIGHT * LATER;

/// SQL that does `what` to the rows for which `which` is true. Out-of-line values stay out of what
/// is streamed unless they change.
fn act(what: i32, which: &str, mark: &str) -> String {
    let ids = format!("(select i from generate_series(0, {ROWS} - 1) i where {which})");
    let insert = format!(
        "insert into document select i, '{mark}', repeat('{mark} ' || i, 400), repeat('{mark}', 700)
           from {ids} i on conflict do nothing;"
    );
    match what {
        0 => String::new(),
        1 => format!("update document set title = title || ' {mark}' where id in {ids};"),
        2 => format!(
            "update document set body = '{mark} ' || body where id in {ids} and id % 2 = 0;
             update document set extra = '{mark} ' || extra where id in {ids} and id % 2 = 1;"
        ),
        3 => format!("delete from document where id in {ids};"),
        4 => format!("delete from document where id in {ids}; {insert}"),
        5 => insert,
        _ => unreachable!(),
    }
}

fn phase(operations: i32, divisor: i32, also: &str, mark: &str) -> String {
    (0..operations)
        .map(|what| act(what, &format!("i / {divisor} % {operations} = {what} {also}"), mark))
        .collect()
}

/// What the guarded streams have of a row: the streamed events in their order and the recovered one.
#[derive(Default)]
struct OfRow {
    streamed: Vec<Value>,
    recovered: Vec<Value>,
}

/// A streamed change in the form that the example consumer's README asks for.
fn event(change: Streamed, lsn: &str, columns: &[&str]) -> Value {
    let position = |text: &str| {
        let (high, low) = text.split_once('/').unwrap();
        u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
    };
    let (op, name, after) = match change {
        Streamed::Insert(name, row) => ("I", name, Some(row)),
        Streamed::Update(name, None, row) => ("U", name, Some(row)),
        Streamed::Delete(name, key) => {
            return json!({"op": "D", "schema": name.schema, "table": name.name, "key": key,
                          "after": null, "version": position(lsn)});
        }
        other => panic!("{other:?}"),
    };
    let after = after.unwrap();
    let unchanged: Vec<&&str> = columns.iter().filter(|c| !after.contains_key(**c)).collect();
    json!({"op": op, "schema": name.schema, "table": name.name, "key": {"id": after["id"]},
           "after": after, "unchanged": unchanged, "version": position(lsn)})
}

/// A copy of the database as it was when the slot was lost, fed with these events.
async fn fed(downstream: &Server, name: &str, events: &[&Value]) -> BTreeMap<i32, String> {
    downstream.sql(format!("create database {name} template shop")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events");
    let text: String = events.iter().map(|event| format!("{event}\n")).collect();
    std::fs::write(&path, text).unwrap();
    consume(downstream, name, &path).await.unwrap();
    let connection = downstream.connect_to(name).await.unwrap();
    let rows: Vec<(i32, String)> =
        connection.rows("select id, document::text from document", &[]).await.unwrap();
    connection.close().await.unwrap();
    downstream.sql(format!("drop database {name}")).await.unwrap();
    rows.into_iter().collect()
}

async fn streamed_events_beat_recovered_ones_in_every_order() {
    python().unwrap();
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production
        .sql(
            "create table document (id int primary key, title text, body text not null, extra text);
             alter table document alter body set storage external, alter extra set storage external;
             create publication p for all tables;",
        )
        .await
        .unwrap();
    let missing = format!("i % {IN_THE_GAP} = 5");
    production.sql(act(5, &format!("not ({missing})"), "base")).await.unwrap();
    production.base_backup().await.unwrap();
    let lost = production.restore_point("lost").await.unwrap();

    production.sql(phase(IN_THE_GAP, 1, "", "gap")).await.unwrap();
    let new_slot = production.create_logical_slot("new", "pgoutput").await.unwrap();
    let restart: String = production
        .value("select restart_lsn::text from pg_replication_slots where slot_name = 'new'")
        .await
        .unwrap();
    let mut divisor = IN_THE_GAP;
    production.sql(phase(BEFORE_HEAD, divisor, "", "early")).await.unwrap();
    divisor *= BEFORE_HEAD;
    let around = divisor;
    let flight = divisor * AROUND_HEAD;
    let in_flight = |yes: i32| format!("and i / {flight} % {IN_FLIGHT} = {yes}");
    let transaction = production.connect().await.unwrap();
    transaction.sql("begin").await.unwrap();
    let statements = phase(AROUND_HEAD, around, &in_flight(1), "flight");
    transaction.sql(&statements).await.unwrap();
    let back = production.restore_point("back").await.unwrap();
    production.sql(phase(AROUND_HEAD, around, &in_flight(0), "late")).await.unwrap();
    transaction.sql("commit").await.unwrap();
    let later = flight * IN_FLIGHT;
    for (what, of) in [(1, 1), (3, 2)] {
        production.sql(act(what, &format!("i / {later} % {LATER} = {of}"), "last")).await.unwrap();
    }
    let messages: Vec<(String, Vec<u8>)> = production
        .rows(
            "select lsn::text, data from pg_logical_slot_get_binary_changes(
                 'new', null, null, 'proto_version', '1', 'publication_names', 'p')",
        )
        .await
        .unwrap();

    let (base, head, downstream) = tokio::try_join!(
        production.restore(&lost),
        production.restore(&back),
        production.restore(&lost)
    )
    .unwrap();
    let gap = Gap::of(base, head).await;
    let recovered = |format: &'static str| {
        let arguments = [
            "run",
            "--sink",
            "ndjson:{dir}/events",
            "--format",
            format,
            "--new-slot-lsn",
            &new_slot,
            "--new-slot-restart-lsn",
            &restart,
        ];
        deltacompare(&gap, &arguments)
    };
    let landing = recovered("landing").run().await;
    landing.assert_completed();
    assert!(!landing.stderr.contains("hold the new slot's consumer"), "{}", landing.stderr);
    let held = deltacompare(&gap, &["plan"]).run().await;
    assert!(held.stdout.contains("hold the new slot's consumer"), "{}", held.stdout);
    let lines = |run: &Run| -> Vec<Value> {
        let text = std::fs::read_to_string(run.file("events")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let version: i64 =
        gap.head.value(format!("select ('{restart}'::pg_lsn - '0/0')::int8")).await.unwrap();
    let landing = lines(&landing);
    let debezium = recovered("debezium").run().await;
    debezium.assert_completed();
    let debezium = lines(&debezium);
    assert_eq!(landing.len(), debezium.len());
    assert!(landing.iter().all(|event| event["version"] == version));
    assert!(debezium.iter().all(|event| event["source"]["lsn"] == version
        && event["source"]["sequence"] == format!("[\"{version}\",\"{version}\"]")));

    let (positions, data): (Vec<String>, Vec<Vec<u8>>) = messages.into_iter().unzip();
    let of_rows = positions
        .iter()
        .zip(&data)
        .filter(|(_, message)| matches!(message[0], b'I' | b'U' | b'D'))
        .map(|(lsn, _)| lsn);
    let columns = ["id", "title", "body", "extra"];
    let streamed: Vec<Value> = read_stream(&data)
        .into_iter()
        .zip(of_rows)
        .map(|(change, lsn)| event(change, lsn, &columns))
        .collect();
    let id = |event: &Value| match &event["key"]["id"] {
        Value::String(text) => text.parse::<i32>().unwrap(),
        number => i32::try_from(number.as_i64().unwrap()).unwrap(),
    };
    let mut rows = BTreeMap::<i32, OfRow>::new();
    for event in &streamed {
        rows.entry(id(event)).or_default().streamed.push(event.clone());
    }
    for event in &landing {
        rows.entry(id(event)).or_default().recovered.push(event.clone());
    }

    // The traps are set: what was in flight at head's end has changes before it (traps.md 3), values
    // are left out, and both streams have many rows in common.
    let head_end: i64 =
        gap.head.value(format!("select ('{}'::pg_lsn - '0/0')::int8", back.lsn)).await.unwrap();
    assert!(streamed.iter().all(|event| event["version"].as_i64().unwrap() > version));
    let commits_late = |event: &&Value| {
        event["after"]["title"].as_str().is_some_and(|title| title.ends_with("flight"))
    };
    let in_flight: Vec<_> = streamed.iter().filter(commits_late).collect();
    assert!(!in_flight.is_empty());
    assert!(in_flight.iter().all(|event| event["version"].as_i64().unwrap() < head_end));
    assert!(
        streamed.iter().any(|event| event["unchanged"].as_array().is_some_and(|u| !u.is_empty()))
    );
    let common = rows.values().filter(|r| !r.streamed.is_empty() && !r.recovered.is_empty());
    assert!(common.count() > 400);

    let expected: Vec<(i32, String)> =
        production.rows("select id, document::text from document").await.unwrap();
    let expected: BTreeMap<i32, String> = expected.into_iter().collect();

    // Each row's recovered event behind its first n streamed ones.
    let longest = rows.values().map(|row| row.streamed.len()).max().unwrap();
    for behind in 0..=longest {
        let mut seen = BTreeMap::new();
        let mut order: Vec<&Value> = Vec::new();
        let early = rows.values().filter(|_| behind == 0).flat_map(|row| &row.recovered);
        order.extend(early);
        for event in &streamed {
            order.push(event);
            let count = seen.entry(id(event)).or_insert(0);
            *count += 1;
            if *count == behind {
                order.extend(&rows[&id(event)].recovered);
            }
        }
        let late = rows.values().filter(|row| behind > row.streamed.len());
        order.extend(late.flat_map(|row| &row.recovered));
        assert_eq!(order.len(), streamed.len() + landing.len());
        if behind == 1 {
            // And all of them once more.
            order.extend(&landing);
            order.extend(&streamed);
        }
        let ended = fed(&downstream, &format!("behind_{behind}"), &order).await;
        for (id, row) in &expected {
            assert!(ended.get(id) == Some(row), "row {id}, {behind} streamed before");
        }
        assert_eq!(ended.len(), expected.len());
    }

    // Without versions the last event wins, and rows turn back.
    let mut unguarded = landing.clone();
    for event in &mut unguarded {
        event.as_object_mut().unwrap().remove("version");
    }
    let order: Vec<&Value> = streamed.iter().chain(&unguarded).collect();
    assert_ne!(fed(&downstream, "unguarded", &order).await, expected);
}

tests! {
    streamed_events_beat_recovered_ones_in_every_order: own_servers seconds(600),
}
