//! Publications that are altered in the gap, and what a slot made of it on the way.

use deltacompare_testbed::{Options, Postgres, Production};

use super::{decode, run};
use crate::support::{
    Gap, NetChange, Row, Run, State, Streamed, TableName, net_of_stream, printers,
};

const BEFORE: &str = "
    create table member (id int primary key, a int);
    create table other (id int primary key);
    create publication joined for table other;
    create table split (id int, place text, v int, primary key (id, place)) partition by list (place);
    create table split_a partition of split for values in ('a');
    create table split_b partition of split for values in ('b');
    create table whole (id int, place text, v int, primary key (id, place)) partition by list (place);
    create table whole_a partition of whole for values in ('a');
    create table whole_b partition of whole for values in ('b');
    create publication to_root for table split with (publish_via_partition_root = false);
    create publication to_leaves for table whole with (publish_via_partition_root = true);
    insert into member select i, i from generate_series(1, 50) i;
    insert into split select i, (array['a', 'b'])[1 + i % 2], i from generate_series(1, 50) i;
    insert into whole select i, (array['a', 'b'])[1 + i % 2], i from generate_series(1, 50) i;
";

/// What happens to a partitioned table, to other rows each time.
fn moves(table: &str, from: u32) -> String {
    format!(
        "update {table} set v = -v where id between {from} and {};
         update {table} set place = translate(place, 'ab', 'ba') where id between {} and {};
         delete from {table} where id = {};
         insert into {table} values ({}, 'a', 1), ({}, 'b', 2);",
        from + 4,
        from + 3,
        from + 6,
        from + 8,
        from + 1000,
        from + 1001,
    )
}

async fn publications_altered_in_the_gap() {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production.sql(BEFORE).await.unwrap();
    let mut streams = Vec::new();
    let gap = Gap::own_over(production, async |production| {
        production.create_logical_slot("slot", "pgoutput").await.unwrap();
        for sql in [
            "update member set a = -a where id <= 5; update member set a = 0 where id = 12".to_owned(),
            "alter publication joined add table member".to_owned(),
            "update member set a = -a where id between 10 and 12; delete from member where id = 20; \
             insert into member values (100, 1)"
                .to_owned(),
            moves("split", 1),
            moves("whole", 1),
            "alter publication to_root set (publish_via_partition_root = true)".to_owned(),
            "alter publication to_leaves set (publish_via_partition_root = false)".to_owned(),
            moves("split", 20),
            moves("whole", 20),
        ] {
            production.sql(sql).await.unwrap();
        }
        for publication in ["joined", "to_root", "to_leaves"] {
            streams.push(decode(production, "slot", &[publication]).await);
        }
    })
    .await;
    for strategy in ["auto", "content", "full"] {
        let arguments = ["--strategy", strategy, "--before", "full"];
        joined(&gap, &run(&gap, &["joined"], &arguments).await, &streams[0]).await;
        let to_root = run(&gap, &["to_root"], &arguments).await;
        regrouped(&gap, &to_root, &streams[1], "split", &["split"]).await;
        warned(&to_root, "public.split", "published as its root: ");
        let to_leaves = run(&gap, &["to_leaves"], &arguments).await;
        regrouped(&gap, &to_leaves, &streams[2], "whole", &["whole_a", "whole_b"]).await;
        for leaf in ["public.whole_a", "public.whole_b"] {
            warned(
                &to_leaves,
                leaf,
                "published by partition: on base it was published as a part of public.whole",
            );
        }
        for run in [&to_root, &to_leaves] {
            let warnings = run.report("report")["warnings"].to_string();
            assert!(!warnings.contains("no longer published"), "{warnings}");
        }
    }
}

fn warned(run: &Run, table: &str, warning: &str) {
    let warnings = run.table("report", table)["warnings"].clone();
    assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
    assert!(warnings[0].as_str().unwrap().starts_with(warning), "{warnings}");
}

/// Of a table that joined, all that changed since base is sent, so all that the stream tells is; the
/// rest changed before it joined.
async fn joined(gap: &Gap, run: &Run, stream: &[Streamed]) {
    let member = TableName::of("member");
    let (base, head) = printers(gap).await;
    let mut sent = run.events("events").changes(&head, &member).await;
    let (base, head) = (State::read(&base, &member).await, State::read(&head, &member).await);
    sent.sort();
    assert_eq!(sent, base.changes_to(&head));
    let streamed: Vec<Vec<Option<String>>> = stream
        .iter()
        .filter_map(|change| match change {
            Streamed::Insert(name, row)
            | Streamed::Update(name, _, row)
            | Streamed::Delete(name, row)
                if *name == member =>
            {
                Some(vec![row["id"].clone()])
            }
            _ => None,
        })
        .collect();
    assert_eq!(streamed.len(), 5);
    let key = |change: &NetChange| match change {
        NetChange::Insert(row) => base.key_of(row),
        NetChange::Update { key, .. } | NetChange::Delete(key) => key.clone(),
    };
    let also: Vec<String> = sent
        .iter()
        .map(key)
        .filter(|key| !streamed.contains(key))
        .map(|key| key[0].clone().unwrap())
        .collect();
    assert_eq!(also, ["1", "2", "3", "4", "5"]);
    warned(run, "public.member", "published in the gap: ");
}

/// The stream told the partitions' changes before and the root's after, or the reverse. Taken as one
/// table's, they are what is sent.
async fn regrouped(gap: &Gap, run: &Run, stream: &[Streamed], root: &str, sent_as: &[&str]) {
    let name = TableName::of(root);
    let as_root = |table: &TableName| match table.name.starts_with(root) {
        true => name.clone(),
        false => table.clone(),
    };
    let told: Vec<Streamed> = stream
        .iter()
        .map(|change| match change.clone() {
            Streamed::Insert(table, row) => Streamed::Insert(as_root(&table), row),
            Streamed::Update(table, old, row) => Streamed::Update(as_root(&table), old, row),
            Streamed::Delete(table, old) => Streamed::Delete(as_root(&table), old),
            Streamed::Truncate(tables) => Streamed::Truncate(tables.iter().map(as_root).collect()),
        })
        .collect();
    let names: std::collections::BTreeSet<&str> = stream
        .iter()
        .filter_map(|change| match change {
            Streamed::Insert(table, _) => Some(table.name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(names.len(), 3, "the root and both partitions: {names:?}");
    let base = State::of(&gap.base, &name).await;
    let head = State::of(&gap.head, &name).await;
    let net = base.changes_to(&head);
    assert_eq!(net_of_stream(&told, &name, &base), net);
    let events = run.events("events");
    assert_eq!(events.0.len(), sent_as.iter().map(|table| events.of(table).len()).sum::<usize>());
    let mut applied = base;
    let rows = |of: fn(&crate::support::LandingEvent) -> Option<Row>| -> Vec<Row> {
        sent_as.iter().flat_map(|table| events.of(table)).filter_map(of).collect()
    };
    let key = applied.clone();
    applied.apply(rows(|e| e.before_row()).iter().map(|row| NetChange::Delete(key.key_of(row))));
    applied.apply(rows(|e| e.after_row()).into_iter().map(NetChange::Insert));
    assert_eq!(applied, head);
}

tests! {
    publications_altered_in_the_gap: own_servers seconds(600),
}
