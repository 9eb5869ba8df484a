//! What travels beside an event: the message key, and tombstones after deletes.

use serde_json::{Value, json};

use crate::support::{Gap, deltacompare};

const SHOP: &str = r#"
    create table line (order_id int, price numeric(5, 2), note text, primary key (price, order_id));
    create table log (message text);
    alter table log replica identity full;
    create publication shop for all tables;
    insert into line select i, i, 'n' from generate_series(1, 9) i;
    insert into log values ('a'), ('b');
"#;

const GAP: &str = r#"
    insert into line values (10, 10, 'new');
    update line set note = 'changed' where order_id = 2;
    delete from line where order_id in (3, 4);
    update line set price = 5.50 where order_id = 5;
    delete from log where message = 'a';
"#;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn keys_stand_beside_events_and_tombstones_behind_deletes() {
    let gap = Gap::between(SHOP, GAP).await;
    // numeric(5,2) under precise: the unscaled integer's bytes in base64.
    for (format, key_of_3, key_of_5) in [
        (
            "debezium",
            json!({"price": "ASw=", "order_id": 3}),
            json!({"price": "AfQ=", "order_id": 5}),
        ),
        (
            "landing",
            json!({"price": "3.00", "order_id": 3}),
            json!({"price": "5.00", "order_id": 5}),
        ),
    ] {
        let mut arguments = vec![
            "run",
            "--format",
            format,
            "--sink",
            "ndjson:{dir}/events",
            "--sink",
            "delta-table",
            "--report",
            "{dir}/report",
        ];
        let plain = deltacompare(&gap, &arguments).run().await;
        plain.assert_completed();
        arguments.push("--ndjson-keys");
        let keyed = deltacompare(&gap, &arguments).run().await;
        keyed.assert_completed();
        arguments.push("--debezium=tombstones.on.delete=true");
        let run = deltacompare(&gap, &arguments).run().await;
        run.assert_completed();

        let read = |run: &crate::support::Run| std::fs::read_to_string(run.file("events")).unwrap();
        let op = |value: &Value| value["op"].as_str().unwrap().to_uppercase();
        assert!(lines(&read(&plain)).iter().all(|event| event.get("value").is_none()));
        let keyed = lines(&read(&keyed));
        assert_eq!(keyed.len(), 7);
        assert!(keyed.iter().all(|line| line["value"].is_object()));

        let text = read(&run);
        let all = lines(&text);
        let mut deletes = 0;
        for (at, line) in all.iter().enumerate() {
            assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), ["key", "value"]);
            if line["value"].is_null() {
                let before = &all[at - 1];
                assert_eq!(op(&before["value"]), "D");
                assert_eq!(before["key"], line["key"]);
                continue;
            }
            let of_log = line["key"].is_null();
            let next_is_tombstone = all.get(at + 1).is_some_and(|next| next["value"].is_null());
            assert_eq!(next_is_tombstone, op(&line["value"]) == "D" && !of_log, "{line}");
            deletes += usize::from(next_is_tombstone);
        }
        assert_eq!((deletes, all.len()), (3, 7 + 3));
        for key in [&key_of_3, &key_of_5] {
            let tombstone = json!({"key": key, "value": null});
            assert!(all.contains(&tombstone), "{tombstone} is not in {text}");
        }
        // In the key's own order, which is not the table's.
        assert!(text.contains(r#"{"key":{"price":"#), "{text}");

        // The delta table has the same keys, and no tombstones.
        let id = run.report("report")["recovery_id"].as_str().unwrap().to_owned();
        let rows: Vec<(String, Option<String>)> = gap
            .head
            .rows(format!(
                "select event::text, key::text from deltacompare.delta where recovery_id = '{id}'"
            ))
            .await
            .unwrap();
        let mut stored: Vec<String> = rows
            .into_iter()
            .map(|(event, key)| {
                format!("{{\"key\":{},\"value\":{event}}}", key.unwrap_or("null".into()))
            })
            .collect();
        let mut written: Vec<String> = text
            .lines()
            .filter(|line| !line.ends_with("\"value\":null}"))
            .map(str::to_owned)
            .collect();
        stored.sort();
        written.sort();
        assert_eq!(stored, written);
    }
    let arguments =
        ["run", "--sink", "ndjson:{dir}/events", "--debezium=tombstones.on.delete=true"];
    let refused = deltacompare(&gap, &arguments).run().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--ndjson-keys"), "{}", refused.stderr);
}

tests! {
    keys_stand_beside_events_and_tombstones_behind_deletes,
}
