//! Tables cut into many work items, in any order, on several processes that are killed: every change
//! comes out once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::support::{hold_the_sink, skip, until, waiting_for_the_sink};

const TABLES: &str = "
    create table plain (id int primary key, grp int, v text, pad text);
    create table texts (grp text, id int, v text, pad text, primary key (grp, id));
    create table keyless (id int, grp int, v text, pad text);
    alter table keyless replica identity full;
    create table parted (id int, grp int, v text, pad text, primary key (id, grp))
      partition by list (grp);
    create table parted_a partition of parted for values in (0, 1, 2);
    create table parted_b partition of parted for values in (3, 4, 5, 6);
    create table parted_c partition of parted default;
    create publication shop for all tables with (publish_via_partition_root);";

const NAMES: [&str; 4] = ["plain", "texts", "keyless", "parted"];

/// Statements that do something random to some rows of a table, and are valid for all of them.
const STEPS: &str = "
    do $$
    declare t text; step int; lo int; n int;
    begin
      perform setseed(SEED);
      for step in 1..60 loop
        t := (array['plain', 'texts', 'keyless', 'parted'])[1 + floor(random() * 4)];
        lo := floor(random() * 3000);
        n := floor(random() * 200);
        begin
          case floor(random() * 9)::int
            when 0 then
              execute format('update %I set v = v || ''+'' where id between $1 and $2', t)
                using lo, lo + n;
            when 1 then
              execute format('update %I set v = v where id between $1 and $2', t) using lo, lo + n;
            when 2 then execute format('delete from %I where id between $1 and $2', t)
                using lo, lo + n / 4;
            when 3 then
              execute format('insert into %I (id, grp, v, pad)
                select i, (i %% 7)::text::' || case t when 'texts' then 'text' else 'int' end || ',
                       ''new'', repeat(''y'', 200) from generate_series($1, $2) i', t)
                using 10000 + step * 1000, 10000 + step * 1000 + n;
            when 4 then
              execute format('update %I set id = -id where id between $1 and $2', t)
                using lo, lo + n / 4;
            -- Rows of parted move to another partition.
            when 5 then
              execute format('update %I set grp = ' || case t when 'texts' then '''g'' || grp'
                             else '(grp + 3) %% 7' end || ' where id between $1 and $2', t)
                using lo, lo + n;
            -- Two keys swap.
            when 6 then
              execute format('update %I set id = 1000000 where id = $1', t) using lo;
              execute format('update %I set id = $1 where id = $2', t) using lo, lo + 1;
              execute format('update %I set id = $1 where id = 1000000', t) using lo + 1;
            -- Gone and there again, on another page.
            when 7 then
              execute format('create temp table gone as select * from %I where id between %s and %s',
                             t, lo, lo + n);
              execute format('delete from %I where id between $1 and $2', t) using lo, lo + n;
              execute format('insert into %I select * from gone', t);
              drop table gone;
            else
              execute format('update %I set pad = repeat(md5(id::text), 8) where id between $1 and $2',
                             t) using lo, lo + n / 2;
          end case;
          if random() < 0.1 then raise division_by_zero; end if;
        exception when division_by_zero or unique_violation then null;
        end;
      end loop;
    end $$";

async fn gap() -> Gap {
    let seed = std::env::var("DELTACOMPARE_RANDOM_SEED")
        .unwrap_or_else(|_| format!("0.{}", rand::random::<u32>()));
    println!("DELTACOMPARE_RANDOM_SEED={seed}");
    let production = Database::new().await;
    production.sql(TABLES).await.unwrap();
    for table in NAMES {
        let kind = if table == "texts" { "text" } else { "int" };
        production
            .sql(format!(
                "insert into {table} (id, grp, v, pad)
                   select i, (i % 7)::text::{kind}, 'v' || i, repeat('x', 200)
                     from generate_series(1, 3000) i"
            ))
            .await
            .unwrap();
    }
    Gap::over(production, async |production| {
        for part in 0..3 {
            production.sql(STEPS.replace("SEED", &format!("{seed}{part}"))).await.unwrap();
            production.sql("vacuum").await.unwrap();
        }
    })
    .await
}

async fn any_ranges_in_any_order_yield_every_change_once() {
    let gap = gap().await;
    let parallel = ["--parallel", "4"];
    let (small, odd, whole, content) = tokio::join!(
        program(&gap, "auto", &["--range-blocks", "8", "--parallel", "4"]).run(),
        program(&gap, "auto", &["--range-blocks", "13", "--parallel", "2"]).run(),
        program(&gap, "auto", &parallel).run(),
        program(&gap, "content", &["--range-blocks", "8"]).run(),
    );
    for run in [&small, &odd, &whole, &content] {
        run.assert_completed();
        let events = run.events("events");
        assert_eq!(events.by_id().len(), events.0.len(), "an event came twice");
        assert_events_turn_base_into_head(&gap, &NAMES, &events).await;
    }
    let items = "select count(*) from deltacompare.work_item where table_name = 'plain'
                  group by recovery_id order by 1 desc limit 1";
    assert!(gap.head.value::<i64>(items).await.unwrap() > 8);
    assert_same_changes(&[small, odd, whole, content]);
}

fn recovery_id(stderr: &str) -> Option<String> {
    stderr.lines().find_map(|line| Some(line.strip_prefix("recovery ")?[..36].to_owned()))
}

/// Starts a recovery and waits until it has an id.
async fn begin(program: &mut Program) -> (tokio::process::Child, String) {
    let stderr = program.folder().join("stderr");
    let child = program.spawn();
    loop {
        if let Some(id) = recovery_id(&std::fs::read_to_string(&stderr).unwrap_or_default()) {
            return (child, id);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn to_file(program: Program) -> Program {
    let file = std::fs::File::create(program.folder().join("stderr")).unwrap();
    program.stderr(file)
}

async fn two_processes_share_the_ranges() {
    let gap = gap().await;
    // So that there is a delta table.
    let once = ["run", "--sink", "delta-table", "--table", "public.plain"];
    deltacompare(&gap, &once).run().await.assert_completed();
    gap.head.sql("truncate deltacompare.recovery, deltacompare.delta cascade").await.unwrap();
    let sink = hold_the_sink(&gap).await;
    let more =
        ["--range-blocks", "8", "--parallel", "2", "--verify", "none", "--sink", "delta-table"];
    let mut first = to_file(program(&gap, "auto", &more));
    let (mut child, id) = begin(&mut first).await;
    until(&gap, &waiting_for_the_sink(2)).await;
    // `--parallel` is for all processes together, and the first has taken two items: two more for the
    // second.
    gap.head
        .sql("update deltacompare.recovery set request = jsonb_set(request, '{parallel}', '4')")
        .await
        .unwrap();
    let mut second = to_file(deltacompare(&gap, &["run", "--resume", &id]));
    let mut joined = second.spawn();
    // All four have an item and events of it in their hands.
    until(&gap, &waiting_for_the_sink(4)).await;
    sink.close().await.unwrap();
    for (program, child) in [(&first, &mut child), (&second, &mut joined)] {
        let code = child.wait().await.unwrap().code();
        let said = std::fs::read_to_string(program.folder().join("stderr")).unwrap();
        assert_eq!(code, Some(0), "{said}");
    }
    let workers = "select count(distinct worker) from deltacompare.work_item";
    assert_eq!(gap.head.value::<i64>(workers).await.unwrap(), 2);
    let events = Events::read(&first.folder().join("events"));
    // Whoever joins may end sessions that are between two items: then some events come again.
    println!("{} events, {} of them again", events.0.len(), events.0.len() - events.by_id().len());
    assert_events_turn_base_into_head(&gap, &NAMES, &events).await;
}

/// A consumer that compares keys by `=` would lose the row if its old key went after the new one
/// came.
async fn a_key_that_prints_otherwise_goes_before_it_comes() {
    // The new versions find no room beside the old ones: they lie in other items.
    let gap = Gap::between(
        "create table amounts (key numeric primary key, v text, pad text);
         insert into amounts select i, 'v', repeat('x', 400) from generate_series(1, 2000) i;
         create publication shop for all tables",
        "update amounts set key = key::numeric(10, 2) where key % 2 = 0;
         update amounts set v = 'w', key = key + 0.0 where key % 3 = 0;
         delete from amounts where key % 7 = 0;
         insert into amounts select 7.000 * i, 'again', repeat('y', 400) from generate_series(1, 9) i",
    )
    .await;
    let small =
        program(&gap, "row-versions", &["--range-blocks", "4", "--parallel", "3"]).run().await;
    let whole = program(&gap, "row-versions", &["--parallel", "1"]).run().await;
    let content = program(&gap, "content", &["--range-blocks", "16"]).run().await;
    for run in [&small, &whole, &content] {
        run.assert_completed();
        let events = run.events("events");
        assert_eq!(events.by_id().len(), events.0.len(), "an event came twice");
        let key =
            |row: crate::support::Row| -> f64 { row["key"].clone().unwrap().parse().unwrap() };
        let mut come = std::collections::BTreeSet::new();
        let mut again = 0;
        for event in &events.0 {
            if let (Some(row), "I") = (event.after_row(), event.op.as_str()) {
                come.insert(key(row).to_bits());
            } else if let (Some(row), "D") = (event.before_row(), event.op.as_str()) {
                let key = key(row);
                assert!(!come.contains(&key.to_bits()), "{key} went after it had come");
                again += 1;
            }
        }
        assert!(again > 1000, "{again} deletes");
        assert_events_turn_base_into_head(&gap, &["amounts"], &events).await;
    }
    assert_same_changes(&[small, whole, content]);
}

/// Killed in the middle of a large item, it goes on at the checkpoint and not at the start.
async fn an_item_goes_on_at_its_checkpoint() {
    // Few rows on many blocks, in several windows; and a walk over many ranges of keys.
    let gap = Gap::between(
        "create table large (id int primary key, v text, pad text) with (fillfactor = 10);
         insert into large select i, 'v', repeat('x', 150) from generate_series(1, 160000) i;
         create publication shop for all tables",
        "update large set v = 'w' where id % 2 = 0; delete from large where id % 1000 = 1",
    )
    .await;
    for strategy in ["row-versions", "content"] {
        // One item, so that there is one checkpoint to look at.
        let one = ["--lease-seconds", "1", "--verify", "none", "--range-blocks", "131072"];
        let mut program = to_file(program(&gap, strategy, &one));
        let (mut child, id) = begin(&mut program).await;
        let checkpoint = format!(
            "select coalesce((select done ->> 'updates' from deltacompare.work_item
               where recovery_id = '{id}' and state = 'running'), '0')::int8"
        );
        let mut stored = 0;
        while stored == 0 {
            assert!(child.try_wait().unwrap().is_none(), "{strategy}: no checkpoint was stored");
            stored = gap.head.value::<i64>(checkpoint.as_str()).await.unwrap();
        }
        child.kill().await.unwrap();
        let stored = gap.head.value::<i64>(checkpoint.as_str()).await.unwrap() as usize;
        let report = program.folder().join("report").display().to_string();
        let resumed =
            deltacompare(&gap, &["run", "--resume", &id, "--report", &report]).run().await;
        resumed.assert_completed();
        let events = Events::read(&program.folder().join("events"));
        let mut times = BTreeMap::<&str, usize>::new();
        for event in &events.0 {
            *times.entry(event.event_id.as_str()).or_default() += 1;
        }
        assert_eq!(times.len(), 80_000 + 160, "{strategy}");
        let once = times.values().filter(|times| **times == 1).count();
        println!("{strategy}: {stored} before the checkpoint, {} sent again", times.len() - once);
        assert!(once >= stored, "{strategy}: what was before the checkpoint was sent again");
        events.by_id();
        assert_events_turn_base_into_head(&gap, &["large"], &events).await;
    }
}

/// What a publication leaves out is left out whichever way tables are compared.
async fn filters_and_column_lists_hold_in_every_range() {
    if Postgres::find(None).unwrap().major() < 15 {
        skip("column lists and row filters came with PostgreSQL 15");
        return;
    }
    let gap = Gap::between(
        "create table filtered (id int, v int, u int, w text, primary key (id, v));
         create table filtered_parts (id int, v int, w text, primary key (id, v))
           partition by range (v);
         create table filtered_1 partition of filtered_parts for values from (0) to (50);
         create table filtered_2 (w text, v int not null, id int not null);
         alter table filtered_parts attach partition filtered_2 for values from (50) to (1000);
         insert into filtered select i, i % 100, 0, repeat('w', 100) from generate_series(1, 3000) i;
         insert into filtered_parts select i, i % 100, repeat('w', 100) from generate_series(1, 3000) i;
         create publication shop for table filtered (id, v, u) where (v < 50),
           filtered_parts where (v % 2 = 0) with (publish_via_partition_root)",
        // Into the filter, out of it, within it, outside of it; what is not published changes too.
        "update filtered set v = v + 50 where id % 10 = 0;
         update filtered set v = v - 50 where id % 10 = 3 and v >= 50;
         update filtered set v = v - 1 where id % 10 = 7;
         update filtered set w = 'other' where id % 10 = 1;
         update filtered set u = 1 where id % 10 in (2, 7);
         delete from filtered where id % 100 = 99;
         update filtered_parts set v = v + 1 where id % 10 = 0;
         update filtered_parts set v = (v + 50) % 100 where id % 10 = 4;
         update filtered_parts set v = 0 where v = 1;
         update filtered_parts set w = 'other' where id % 10 = 6",
    )
    .await;
    let (identity, content, full) = tokio::join!(
        program(&gap, "row-versions", &["--range-blocks", "7"]).run(),
        program(&gap, "content", &["--range-blocks", "7"]).run(),
        program(&gap, "full", &[]).run(),
    );
    for (run, strategy) in [(&identity, "row-versions"), (&content, "content"), (&full, "full")] {
        run.assert_completed();
        for table in ["public.filtered", "public.filtered_parts"] {
            assert_eq!(run.table("report", table)["strategy"], strategy, "{table}");
        }
    }
    let (inserts, updates, deletes) = full.counts("report", "public.filtered");
    assert!(inserts > 100 && updates > 100 && deletes > 100, "{inserts} {updates} {deletes}");
    assert_same_changes(&[full, identity, content]);
}

tests! {
    any_ranges_in_any_order_yield_every_change_once: seconds(600),
    two_processes_share_the_ranges: seconds(600),
    a_key_that_prints_otherwise_goes_before_it_comes: seconds(600),
    an_item_goes_on_at_its_checkpoint: seconds(600),
    filters_and_column_lists_hold_in_every_range: seconds(600),
}
