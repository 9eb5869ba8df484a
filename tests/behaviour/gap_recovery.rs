//! The main job: what changed between the two restores comes out, and nothing else.

use crate::support::{Gap, assert_events_turn_base_into_head, deltacompare};

const SHOP: &str = r#"
    create table customer (id int primary key, name text not null, rating numeric, note text);
    create table line (order_id int, product text, amount numeric(10,2), primary key (order_id, product));
    create table log (at timestamptz, message text);
    alter table log replica identity full;
    create publication shop for all tables;
    insert into customer select i, 'customer ' || i, 1.0, nullif('', repeat('x', i % 3))
      from generate_series(1, 1000) i;
    insert into line select i, 'p' || j, j from generate_series(1, 100) i, generate_series(1, 5) j;
    insert into log select '2026-01-01 00:00:00Z'::timestamptz + i / 3 * interval '1 s', 'message'
      from generate_series(1, 300) i;
"#;

const GAP: &str = r#"
    insert into customer select i, 'new ' || i from generate_series(1001, 1050) i;
    update customer set rating = 1.00 where id between 10 and 19;
    update customer set name = name where id between 20 and 29;
    update customer set note = null where id between 30 and 39;
    delete from customer where id between 40 and 49;
    update line set product = 'q' || product where order_id = 7;
    delete from line where order_id = 9;
    insert into log select at, message from log limit 5;
    delete from log where ctid in (select ctid from log order by at desc limit 7);
"#;

const TABLES: [&str; 3] = ["customer", "line", "log"];

async fn changes_come_out_and_nothing_else() {
    let gap = Gap::between(SHOP, GAP).await;
    for strategy in ["auto", "row-versions", "content", "full"] {
        let run = deltacompare(
            &gap,
            &[
                "run",
                "--sink",
                "ndjson:{dir}/events",
                "--format",
                "landing",
                "--report",
                "{dir}/report",
                "--verify",
                "full",
                "--strategy",
                strategy,
            ],
        )
        .run()
        .await;
        run.assert_completed();
        let events = run.events("events");
        assert_events_turn_base_into_head(&gap, &TABLES, &events).await;
        let report = run.report("report");
        assert_eq!(report["state"], "completed");
        assert_eq!(report["totals"]["inserts"], 50 + 5 + 5, "{report:#}");
        assert_eq!(report["totals"]["updates"], 10 + events_with_notes(), "{report:#}");
        assert_eq!(report["totals"]["deletes"], 10 + 5 + 5 + 7, "{report:#}");
        let strategies: Vec<&str> = report["tables"]
            .as_array()
            .unwrap()
            .iter()
            .map(|table| table["strategy"].as_str().unwrap())
            .collect();
        let expected = match strategy {
            "auto" | "row-versions" => ["row-versions"; 3],
            "content" => ["content"; 3],
            _ => ["full"; 3],
        };
        assert_eq!(strategies, expected);
    }
}

/// Of customers 30 to 39, those whose note was not null before.
fn events_with_notes() -> u64 {
    (30..40).filter(|i| i % 3 != 0).count() as u64
}

tests! {
    changes_come_out_and_nothing_else: majors,
}
