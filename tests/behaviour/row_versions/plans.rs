//! The plans that matter are the ones meant, whatever the statistics say.

use deltacompare_testbed::Server;

use super::*;

/// Tables that were never analyzed, and others whose statistics are wrong by a factor of 1000
/// either way.
const STATISTICS: [(&str, &str); 4] = [
    ("never", ""),
    (
        "inflated",
        "analyze TABLE; update pg_class set reltuples = reltuples * 1000, relpages = relpages * 1000",
    ),
    ("deflated", "analyze TABLE; update pg_class set reltuples = reltuples / 1000, relpages = 1"),
    ("emptied", "analyze TABLE; update pg_class set reltuples = 0, relpages = 0"),
];

const SHAPES: [(&str, &str); 6] = [
    (
        "ints",
        "create table TABLE (id int primary key, a text, v int) with (autovacuum_enabled = off)",
    ),
    (
        "texts",
        "create table TABLE (id int, a text collate \"C\" primary key, v int)
               with (autovacuum_enabled = off)",
    ),
    (
        "sorted",
        "create table TABLE (id int, a text primary key, v int) with (autovacuum_enabled = off)",
    ),
    (
        "pairs",
        "create table TABLE (id int, a text collate \"C\", v int, primary key (a, id))
               with (autovacuum_enabled = off)",
    ),
    (
        "bags",
        "create table TABLE (id int, a text, v int) with (autovacuum_enabled = off);
               alter table TABLE replica identity full",
    ),
    (
        "parts",
        "create table TABLE (id int, a text, v int, primary key (id)) partition by hash (id);
               create table TABLE_0 partition of TABLE for values with (modulus 2, remainder 0)
                 with (autovacuum_enabled = off);
               create table TABLE_1 partition of TABLE for values with (modulus 2, remainder 1)
                 with (autovacuum_enabled = off)",
    ),
];

/// The plans that a server logged for queries of ours.
struct Plans(Vec<String>);

impl Plans {
    fn of(server: &Server) -> Self {
        let mut entries: Vec<String> = Vec::new();
        for line in server.log().lines() {
            match entries.last_mut() {
                Some(entry) if line.starts_with('\t') => {
                    entry.push_str(line);
                    entry.push('\n');
                }
                _ => entries.push(format!("{line}\n")),
            }
        }
        entries.retain(|entry| entry.contains("plan:\n") && entry.contains("app=deltacompare"));
        Self(entries)
    }

    /// Those with this in their text.
    fn with<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str).filter(move |plan| plan.contains(text))
    }
}

/// All plans use one of these nodes for the table, and none of those.
fn assert_plans(sides: &[(&str, Plans)], table: &str, text: &str, nodes: &[&str], never: &[&str]) {
    let name = format!("\"{table}");
    for (side, plans) in sides {
        let of_table: Vec<&str> = plans.with(text).filter(|plan| plan.contains(&name)).collect();
        println!("{side} {table}: {} plans for {text}", of_table.len());
        assert!(!of_table.is_empty(), "{side} {table}: no plan for {text}");
        // A range without bounds is the whole table.
        for plan in of_table.iter().filter(|plan| !plan.contains("where true")) {
            assert!(nodes.iter().any(|node| plan.contains(node)), "{side} {table}:\n{plan}");
            for node in never {
                assert!(!plan.contains(node), "{side} {table}: {node}\n{plan}");
            }
        }
    }
}

async fn plans_do_not_depend_on_statistics() {
    let conf = [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "log_line_prefix = 'app=%a '",
    ];
    let conf = conf.map(str::to_owned).to_vec();
    let mut before = String::new();
    let mut forge = Vec::new();
    let mut during = String::new();
    let mut tables = Vec::new();
    for (shape, create) in SHAPES {
        for (statistics, forgery) in STATISTICS {
            let table = format!("{shape}_{statistics}");
            before += &create.replace("TABLE", &table);
            before += &format!(
                "; insert into {table} select i, 'a' || i, i from generate_series(1, 5000) i;"
            );
            if !forgery.is_empty() {
                forge.push(format!(
                    "{} where relname = '{table}' or relname like '{table}\\__'
                        or relname like '{table}%pkey'",
                    forgery.replace("TABLE", &table)
                ));
            }
            // So that versions lie in different batches, and some keys have to be looked up.
            during += &format!(
                "update {table} set v = -v where id <= 100;
                 update {table} set id = id + 100000 where id between 200 and 210;
                 delete from {table} where id between 300 and 310;"
            );
            tables.push(table);
        }
    }
    before += "create publication shop for all tables with (publish_via_partition_root)";
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options { conf, ..Options::default() })
            .await
            .unwrap();
    production.sql(before).await.unwrap();
    for statement in forge {
        production.sql(statement).await.unwrap();
    }
    let gap = Gap::own_after(production, &during).await;
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();

    let (identity, content, full) = tokio::join!(
        program(&gap, "row-versions", &["--verify", "sample", "--range-blocks", "8"]).run(),
        program(&gap, "content", &["--verify", "none", "--range-blocks", "8"]).run(),
        program(&gap, "full", &["--verify", "none"]).run(),
    );
    for run in [&identity, &content, &full] {
        run.assert_completed();
        assert_events_turn_base_into_head(&gap, &names, &run.events("events")).await;
    }
    let index = ["Index Scan using", "Index Only Scan using", "Bitmap Index Scan on"];
    let whole = ["Seq Scan on"];
    let sides = [("base", Plans::of(&gap.base)), ("head", Plans::of(&gap.head))];
    for table in &names {
        let tid_range = ["Tid Range Scan on"];
        assert_plans(&sides, table, "bit_xor(hashtidextended", &tid_range, &whole);
        assert_plans(&sides, table, "array_agg(r.ctid)", &tid_range, &whole);
        assert_plans(&sides, table, "g (low, high, position)", &tid_range, &whole);
        assert_plans(&sides, table, "ctid = any (", &["Tid Scan on"], &whole);
        if table.starts_with("bags") {
            // Rows without a key are read once through and counted as they come.
            assert_plans(&sides, table, "sum(s.hash)", &["HashAggregate"], &["Sort", "Index"]);
            assert_plans(&sides, table, "any ($1::int4[])", &whole, &["Sort", "Index"]);
        } else if table.starts_with("sorted") {
            // No index is asked for what its collation sorts.
            let counted = ["HashAggregate"];
            assert_plans(&sides, table, "sum(s.row)", &counted, &["Sort", "Index"]);
            assert_plans(&sides, table, "any ($1::int4[])", &whole, &["Sort", "Index"]);
            assert_plans(&sides[1..], table, "any ($1::int8[])", &whole, &["Sort", "Index"]);
            assert!(sides.iter().all(|(_, plans)| {
                plans.with(") as w (k1").all(|plan| !plan.contains(&format!("\"{table}")))
            }));
        } else {
            assert_plans(&sides, table, ") as w (number, k1", &index, &whole);
            // Neighbours are scanned one bucket after the other, others counted as they come.
            assert_plans(&sides, table, " as bucket", &index, &["Seq Scan on", "Sort"]);
            let counted = if table.starts_with("ints") || table.starts_with("parts") {
                "Function Scan on"
            } else {
                "HashAggregate"
            };
            assert_plans(&sides, table, " as bucket", &[counted], &[]);
        }
    }
    // Statements of head alone.
    let [_, (_, head)] = &sides;
    let joins: Vec<&str> = head.with("full join").collect();
    assert_eq!(joins.len(), names.iter().filter(|table| !table.starts_with("bags")).count());
    for plan in joins {
        assert!(plan.contains("Hash Full Join") && !plan.contains("Merge"), "{plan}");
    }
    let samples: Vec<&str> = head.with("tablesample").collect();
    assert!(!samples.is_empty());
    for plan in samples {
        assert!(plan.contains("Sample Scan on"), "{plan}");
        assert!(!plan.contains("Seq Scan on") && !plan.contains("Index"), "{plan}");
    }
}

tests! {
    plans_do_not_depend_on_statistics: own_servers seconds(600),
}
