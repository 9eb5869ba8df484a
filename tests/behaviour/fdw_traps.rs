//! Names, shapes and values that break naive SQL, with every strategy: what changed comes out, what
//! did not does not.

mod names;
mod size;
mod values;

use deltacompare_testbed::{Options, Role};

use crate::support::{Gap, Run, deltacompare, skip, url};

/// `full`, and whatever else the product would choose, proved by `full`.
const STRATEGIES: [&[&str]; 2] = [&["--strategy", "full"], &["--verify", "full"]];

const LANDING: [&str; 9] = [
    "run",
    "--sink",
    "ndjson:{dir}/events",
    "--report",
    "{dir}/report",
    "--format",
    "landing",
    "--before",
    "full",
];

async fn run(gap: &Gap, arguments: &[&str]) -> Run {
    let run = deltacompare(gap, &[&LANDING[..], arguments].concat()).run().await;
    run.assert_completed();
    run
}

/// Tables with the inserts, updates and deletes that each must have.
type Expected<'a> = &'a [(&'a str, (u64, u64, u64))];

fn assert_counts(run: &Run, expected: Expected<'_>) {
    let report = run.report("report");
    let names: Vec<String> = report["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| format!("{}.{}", t["schema"].as_str().unwrap(), t["table"].as_str().unwrap()))
        .collect();
    for (table, counts) in expected {
        assert_eq!(run.counts("report", table), *counts, "{table}");
    }
    let unexpected: Vec<_> =
        names.iter().filter(|name| expected.iter().all(|(table, _)| table != name)).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn hostile_identifiers() {
    let long = "é".repeat(31) + "x";
    assert_eq!(long.len(), 63);
    let names = [
        r#"a"; drop table b; --"#,
        "b",
        "it's",
        "select",
        "new\nline\tand tab",
        r"back\slash",
        "$1 {x} %s",
        "a.b",
        " ",
        "Ωμέγα🎉",
        &long,
        "deltacompare",
        "Robert'); drop schema public cascade; --",
    ];
    let (mut before, mut during) = (String::new(), String::new());
    let schemas = ["public", "select", r#"s"; drop schema public cascade; --"#, "a.b", &long];
    before += "create publication \"all\"\"; --\" for all tables;";
    for schema in &schemas {
        before += &format!("create schema if not exists {};", quoted(schema));
    }
    let mut expected = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let schema = schemas[number % schemas.len()];
        let table = format!("{}.{}", quoted(schema), quoted(name));
        let columns: Vec<String> =
            names.iter().map(|name| format!("{} text", quoted(name))).collect();
        // The key's own name is hostile too.
        before += &format!(
            "create table {table} ({}, primary key ({}));
             insert into {table} ({key}) select i from generate_series(1, 5) i;",
            columns.join(", "),
            quoted(name),
            key = quoted(name),
        );
        let value = quoted(names[(number + 1) % names.len()]);
        during += &format!(
            "insert into {table} ({key}) values ('6');
             update {table} set {value} = $x$'\"\\ $1$x$ where {key} in ('1', '2');
             delete from {table} where {key} = '3';",
            key = quoted(name),
        );
        expected.push((schema.to_owned(), (*name).to_owned()));
    }
    let gap = Gap::own(Options::default(), &before, &during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, &[strategy, &["--publication", "all\"; --"]].concat()).await;
        let report = run.report("report");
        let tables = report["tables"].as_array().unwrap();
        assert_eq!(tables.len(), names.len());
        for (schema, name) in &expected {
            let found = tables
                .iter()
                .find(|t| t["schema"] == schema.as_str() && t["table"] == name.as_str())
                .unwrap_or_else(|| panic!("{schema}.{name} is not in {report:#}"));
            let counts = (&found["inserts"], &found["updates"], &found["deletes"]);
            assert_eq!(counts, (&1.into(), &2.into(), &1.into()), "{schema}.{name}");
        }
    }
    // Names on the command line, quoted as in SQL.
    let table = r#""public"."a""; drop table b; --""#;
    let only = run(&gap, &["--table", table]).await;
    assert_eq!(only.report("report")["totals"]["updates"], 2);
    deltacompare(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    let left: i64 = gap.head.value("select count(*) from pg_publication_tables").await.unwrap();
    assert_eq!(left, names.len() as i64);
}

async fn tables_of_every_shape() {
    let before = "
        create publication others for all tables;
        create table empty (id int primary key);
        create table filled (id int primary key);
        create table emptied (id int primary key);
        insert into emptied select generate_series(1, 7);
        create table no_columns ();
        alter table no_columns replica identity full;
        insert into no_columns select from generate_series(1, 5);
        create table lost_columns (gone int, id int primary key, also_gone text, v text);
        insert into lost_columns select i, i, 'x', 'v' from generate_series(1, 9) i;
        alter table lost_columns drop column gone, drop column also_gone;
        create table lost_everything (a int);
        alter table lost_everything replica identity full;
        insert into lost_everything select generate_series(1, 4);
        alter table lost_everything drop column a;
        create table parent (id int primary key, v text);
        create table child (extra int, primary key (id)) inherits (parent);
        create table grandchild (primary key (id)) inherits (child);
        insert into parent select i, 'parent' from generate_series(1, 10) i;
        insert into child select i, 'child', i from generate_series(1, 10) i;
        insert into grandchild select i, 'grandchild', i from generate_series(1, 10) i;
        create table generated (id int primary key, v int,
                                twice int generated always as (v * 2) stored,
                                nth int generated always as identity);
        insert into generated (id, v) select i, i from generate_series(1, 10) i;
        create table reordered (a int primary key, b text, c text);
        insert into reordered select i, 'b', 'c' from generate_series(1, 5) i;
        create table by_index (a int not null, b text, unique (a));
        alter table by_index replica identity using index by_index_a_key;
        insert into by_index select i, 'b' from generate_series(1, 10) i;
        create unlogged table unlogged (id int primary key);
        create table chosen (id int primary key, v text);
        insert into chosen select i, 'v' from generate_series(1, 5) i;
    ";
    let during = "
        insert into filled select generate_series(1, 3);
        delete from emptied;
        insert into no_columns select from generate_series(1, 2);
        update lost_columns set v = 'w' where id = 1;
        delete from lost_columns where id = 2;
        delete from lost_everything where ctid = '(0,1)';
        update only parent set v = 'PARENT' where id = 1;
        update only child set v = 'CHILD' where id < 3;
        update only grandchild set v = 'GRANDCHILD' where id < 4;
        update generated set v = v + 1 where id < 3;
        alter table reordered add column d int;
        alter table reordered drop column b;
        update reordered set c = 'C' where a = 1;
        update by_index set b = 'B' where a < 3;
        update by_index set a = a + 100 where a = 10;
        insert into unlogged values (1);
        create table born (id int primary key);
        insert into born select generate_series(1, 6);
        drop table chosen;
        create table chosen (id int primary key, v text);
        insert into chosen select i, 'v' from generate_series(1, 5) i;
        update chosen set v = 'V' where id = 5;
    ";
    let gap = Gap::between(before, during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, strategy).await;
        assert_counts(
            &run,
            &[
                ("public.empty", (0, 0, 0)),
                ("public.filled", (3, 0, 0)),
                ("public.emptied", (0, 0, 7)),
                ("public.no_columns", (2, 0, 0)),
                ("public.lost_columns", (0, 1, 1)),
                ("public.lost_everything", (0, 0, 1)),
                ("public.parent", (0, 1, 0)),
                ("public.child", (0, 2, 0)),
                ("public.grandchild", (0, 3, 0)),
                ("public.generated", (0, 2, 0)),
                ("public.reordered", (0, 1, 0)),
                ("public.by_index", (1, 2, 1)),
                ("public.born", (6, 0, 0)),
                ("public.chosen", (0, 1, 0)),
            ],
        );
    }
}

async fn what_publications_let_through() {
    if deltacompare_testbed::Postgres::find(None).unwrap().major() < 15 {
        skip("column lists and row filters came with PostgreSQL 15");
        return;
    }
    let before = "
        create table via_root (id int, region text, v text, primary key (id, region))
          partition by list (region);
        create table via_root_n partition of via_root for values in ('n');
        create table via_root_s partition of via_root for values in ('s')
          partition by range (id);
        create table via_root_s1 partition of via_root_s for values from (0) to (10);
        create table via_root_s2 partition of via_root_s for values from (10) to (1000);
        create publication root for table via_root with (publish_via_partition_root);
        create table leaves (id int primary key, v text) partition by range (id);
        create table leaves_1 partition of leaves for values from (0) to (10);
        create table leaves_2 (v text, id int not null, primary key (id));
        alter table leaves attach partition leaves_2 for values from (10) to (1000);
        create publication leaves for table leaves;
        create table rows_of (id int primary key, region text, v text);
        alter table rows_of replica identity full;
        create publication rows_of for table rows_of where (region = 'eu' and id > 5);
        create table columns_of (id int primary key, shown text, hidden text);
        create publication columns_of for table columns_of (id, shown);
        insert into via_root
          select i, r, 'v' from generate_series(1, 20) i, unnest(array['n', 's']) r;
        insert into leaves select i, 'v' from generate_series(1, 20) i;
        insert into rows_of
          select i, case i % 2 when 0 then 'eu' else 'us' end, 'v' from generate_series(1, 20) i;
        insert into columns_of select i, 'shown', 'hidden' from generate_series(1, 20) i;
    ";
    let during = "
        update via_root set v = 'V' where id in (1, 15);
        delete from via_root where id = 3;
        update via_root set region = 's', id = 100 where region = 'n' and id = 7;
        update leaves set v = 'V' where id in (1, 15);
        update leaves set id = 500 where id = 5;
        -- Within the filter, into it, out of it, and beyond it.
        update rows_of set v = 'V' where id in (2, 3, 6, 7, 8);
        update rows_of set region = 'eu' where id = 9;
        update rows_of set region = 'us' where id = 10;
        delete from rows_of where id in (12, 13);
        insert into rows_of values (30, 'eu', 'v'), (31, 'us', 'v');
        update columns_of set hidden = 'HIDDEN' where id < 10;
        update columns_of set shown = 'SHOWN' where id > 17;
    ";
    let gap = Gap::between(before, during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, strategy).await;
        assert_counts(
            &run,
            &[
                ("public.via_root", (1, 4, 3)),
                ("public.leaves_1", (0, 1, 1)),
                ("public.leaves_2", (1, 1, 0)),
                ("public.rows_of", (2, 2, 2)),
                ("public.columns_of", (0, 3, 0)),
            ],
        );
        let events = run.events("events");
        assert!(
            events.0.iter().all(|event| !format!("{event:?}").to_lowercase().contains("hidden")),
            "{events:?}"
        );
    }
}

async fn rights_of_another_role() {
    // The owner of tables, not of the database.
    let before = "create table t (id int primary key); insert into t values (1);
                  create publication p for all tables;
                  create role \"o'dd \"\"role\" login createrole replication password 'pw';
                  grant create on database shop to \"o'dd \"\"role\";
                  grant pg_read_all_data to \"o'dd \"\"role\" with admin option;";
    let gap = Gap::own(Options::default(), before, "insert into t values (2)").await;
    gap.head
        .sql("grant usage on foreign data wrapper postgres_fdw to \"o'dd \"\"role\"")
        .await
        .unwrap();
    let user = "o%27dd%20%22role";
    let program = deltacompare(&gap, &[&LANDING[..], STRATEGIES[0]].concat())
        .env("DELTACOMPARE_BASE", &url(&gap.base, user, "pw"))
        .env("DELTACOMPARE_HEAD", &url(&gap.head, user, "pw"));
    let run = program.run().await;
    run.assert_completed();
    assert_counts(&run, &[("public.t", (1, 0, 0))]);
    assert!(!run.stderr.contains(gap.base.password(Role::Admin)));
}

/// Row versions and contents of tables with a key are read from each server by itself: head need not
/// reach base, and no role is created there.
async fn what_head_does_not_read_through_needs_no_link() {
    let gap = Gap::between(
        "create table t (id int primary key, v text); create table log (line text);
         alter table log replica identity full; insert into log values ('l');
         insert into t select i, 'v' from generate_series(1, 100) i;
         create publication shop for all tables",
        "update t set v = 'w' where id < 10; insert into log values ('m')",
    )
    .await;
    // Nobody listens there.
    let without_a_way = ["--fdw", "port=1"];
    for strategy in ["row-versions", "content"] {
        let keyed = ["--table", "public.t", "--strategy", strategy];
        let run = run(&gap, &[&keyed[..], &without_a_way].concat()).await;
        assert_counts(&run, &[("public.t", (0, 9, 0))]);
    }
    let both = deltacompare(&gap, &[&LANDING[..], &without_a_way].concat()).run().await;
    assert_eq!(both.code, Some(2), "{}", both.stderr);
    assert!(both.stderr.contains("port 1"), "{}", both.stderr);
}

tests! {
    [names, size, values]
    hostile_identifiers: own_servers,
    tables_of_every_shape,
    what_publications_let_through,
    what_head_does_not_read_through_needs_no_link,
    rights_of_another_role: own_servers,
}
