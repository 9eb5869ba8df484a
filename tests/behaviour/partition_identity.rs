//! Partitions with another replica identity than their root: of an old row the WAL has what the
//! partition's says, and a slot sends that, as the partition's or as the root's. Needs slots, and
//! therefore servers of its own.

use std::collections::BTreeMap;

use deltacompare_testbed::{Options, Postgres, Production};

use crate::support::{Gap, Row, Streamed, TableName, deltacompare, read_stream};

/// Of each root the partitions 1 to 3 have ids below 100, 200 and 300.
const ROOTS: [(&str, [&str; 3]); 4] = [
    ("full_root", ["default", "full", "default"]),
    ("default_root", ["full", "default", "full"]),
    // All as one, and other than the root.
    ("full_alone", ["default", "default", "default"]),
    ("full_partitions", ["full", "full", "full"]),
];

fn schema() -> String {
    let mut sql = String::new();
    for (root, identities) in ROOTS {
        sql += &format!(
            "create table {root} (id numeric, a int, b text, primary key (id)) \
               partition by range (id);"
        );
        for (at, identity) in identities.into_iter().enumerate() {
            sql += &format!(
                "create table {root}_{at} partition of {root} \
                   for values from ({}) to ({}); \
                 alter table {root}_{at} replica identity {identity};",
                at * 100,
                at * 100 + 100
            );
        }
        let of_root =
            if root.starts_with("full_root") || root == "full_alone" { "full" } else { "default" };
        sql += &format!(
            "alter table {root} replica identity {of_root}; \
             insert into {root} select i, i, 'b' || i from generate_series(0, 299) i;"
        );
    }
    sql + "create table turned (id int primary key, a int) partition by range (id); \
           create table turned_0 partition of turned for values from (0) to (100); \
           create table turned_1 partition of turned for values from (100) to (200); \
           insert into turned select i, i from generate_series(0, 199) i; \
           create publication roots for all tables with (publish_via_partition_root = true); \
           create publication partitions for all tables;"
}

fn gap_of(root: &str) -> String {
    let mut sql = String::new();
    for from in [0, 100, 200] {
        sql += &format!(
            "update {root} set a = -1 where id between {from} + 10 and {from} + 12; \
             delete from {root} where id between {from} + 20 and {from} + 22; \
             update {root} set id = id + 0.5 where id = {from} + 30;"
        );
    }
    sql
}

/// The old row, without what is not told, of each updated or deleted key.
type Told = BTreeMap<(String, Option<String>), Option<Row>>;

fn streamed(stream: &[Streamed], table: &TableName) -> Told {
    let known = |mut row: Row| {
        row.retain(|_, value| value.is_some());
        row
    };
    let mut told = Told::new();
    for change in stream {
        match change {
            Streamed::Update(name, old, new) if name == table => match old {
                // A changed key is a delete and an insert.
                Some(old) if old["id"] != new["id"] => {
                    told.insert(("D".into(), old["id"].clone()), Some(known(old.clone())));
                }
                old => {
                    told.insert(("U".into(), new["id"].clone()), old.clone().map(known));
                }
            },
            Streamed::Delete(name, old) if name == table => {
                told.insert(("D".into(), old["id"].clone()), Some(known(old.clone())));
            }
            _ => {}
        }
    }
    told
}

async fn old_rows_are_told_as_the_partition_says() {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production.sql(schema()).await.unwrap();
    let mut streams = BTreeMap::new();
    let gap = Gap::own_over(production, async |production| {
        for publication in ["roots", "partitions"] {
            production.create_logical_slot(publication, "pgoutput").await.unwrap();
        }
        for (root, _) in ROOTS {
            production.sql(gap_of(root)).await.unwrap();
        }
        production
            .sql(
                "alter table turned_1 replica identity full;
                 update turned set a = -1 where id in (10, 110);
                 delete from turned where id in (20, 120)",
            )
            .await
            .unwrap();
        for publication in ["roots", "partitions"] {
            let messages = production.decode_messages(publication, publication).await.unwrap();
            streams.insert(publication, read_stream(&messages));
        }
    })
    .await;
    for (publication, stream) in &streams {
        for strategy in ["auto", "content", "full"] {
            let arguments = [
                "run",
                "--publication",
                publication,
                "--sink",
                "ndjson:{dir}/events",
                "--format",
                "landing",
                "--strategy",
                strategy,
                "--report",
                "{dir}/report",
            ];
            let run = deltacompare(&gap, &arguments).run().await;
            run.assert_completed();
            let events = run.events("events");
            let roots = ROOTS.map(|(root, _)| root).into_iter().chain(["turned"]);
            let tables: Vec<String> = match *publication {
                "roots" => roots.map(str::to_owned).collect(),
                _ => roots
                    .flat_map(|root| (0..3).map(move |at| format!("{root}_{at}")))
                    .filter(|name| name != "turned_2")
                    .collect(),
            };
            for name in tables {
                let table = TableName::of(&name);
                let expected = streamed(stream, &table);
                assert!(expected.len() >= 2, "{name}: {expected:?}");
                let mut told = Told::new();
                for event in events.of_table(&table).iter().filter(|event| event.op != "I") {
                    let key = event.key.as_ref().unwrap()["id"].get().trim_matches('"').to_owned();
                    told.insert((event.op.clone(), Some(key)), event.before_row());
                }
                assert_eq!(told, expected, "{publication}, {strategy}: {name}");
                let report = run.table("report", &format!("public.{name}"));
                let warnings = report["warnings"].to_string();
                match name.as_str() {
                    "turned" => assert!(
                        warnings.contains(
                            "replica identity changed: of public.turned_1: default on base, full \
                             on head"
                        ),
                        "{warnings}"
                    ),
                    "turned_1" => {
                        assert!(
                            warnings.contains("replica identity changed: default"),
                            "{warnings}"
                        )
                    }
                    _ => assert_eq!(warnings, "[]", "{name}"),
                }
                if strategy == "auto" {
                    assert_eq!(report["strategy"], "row-versions", "{report:#}");
                }
            }
        }
    }
}

tests! {
    old_rows_are_told_as_the_partition_says: own_servers majors,
}
