//! Rows of a partition are looked up in the partition, where a key says which one has it, and
//! elsewhere in the whole table.

use deltacompare_testbed::Server;

use super::*;

/// A root in parts of a hundred rows, and one of which the rows change places while its parts stay the
/// same files.
const BEFORE: &str = "
    create table parted (id int primary key, v text) partition by range (id);
    create table swapped (id int primary key, v text) partition by range (id);
    create table other (id int primary key, v text) partition by range (id);
    do $$ begin
      for i in 0..39 loop
        execute format('create table parted_%s partition of parted for values from (%s) to (%s)',
                       i, i * 100, i * 100 + 100);
      end loop;
      execute format('alter database %I set log_statement = ''all''', current_database());
    end $$;
    create table many (id int primary key, v text) partition by range (id);
    do $$ begin
      for i in 0..149 loop
        execute format('create table many_%s partition of many for values from (%s) to (%s)',
                       i, i * 10, i * 10 + 10);
      end loop;
    end $$;
    insert into many select i, 'v' from generate_series(0, 1499) i;
    create table swapped_a partition of swapped for values from (0) to (100);
    create table swapped_b partition of swapped for values from (100) to (200);
    create table other_a partition of other for values from (0) to (100);
    create table other_rest partition of other default;
    insert into parted select i, 'v' from generate_series(0, 3999) i where i % 100 <> 50;
    insert into swapped select i, 'v' from generate_series(0, 199) i;
    insert into other select i, 'v' from generate_series(0, 199) i;
    create function odd_hash(int4, int8) returns int8 language sql immutable as 'select $1::int8 + 1';
    create operator class odd for type int4 using hash as operator 1 =, function 2 odd_hash(int4, int8);
    create table hashed (id int, v text, primary key (id)) partition by hash (id odd);
    create table hashed_0 partition of hashed for values with (modulus 2, remainder 0);
    create table hashed_1 partition of hashed for values with (modulus 2, remainder 1);
    insert into hashed select i, 'v' from generate_series(1, 20) i;
    create publication p for table parted, swapped, other, many, hashed with (publish_via_partition_root);
";

/// Of `hashed`, the partition of a key changes, though nothing that is printed of the partitions does.
const DURING: &str = "
    create or replace function odd_hash(int4, int8) returns int8 language sql immutable
      as 'select $1::int8';
    delete from hashed where id <= 6;
    insert into hashed select i, case when i < 4 then 'w' else 'v' end from generate_series(1, 6) i;
    update many set v = 'w' where id % 100 = 3;
    update parted set v = 'w' where id % 10 = 1;
    delete from parted where id in (2005, 2105);
    update parted set id = id + 2000, v = 'moved' where id in (5, 105);
    delete from parted where id % 100 = 2;
    insert into parted values (2, 'again');
    insert into parted select i, 'new' from generate_series(50, 3999, 100) i;
    alter table swapped detach partition swapped_a;
    alter table swapped detach partition swapped_b;
    update swapped_a set id = id + 100;
    update swapped_b set id = id - 100, v = 'w' where id < 150;
    update swapped_b set id = id - 100 where id >= 150;
    alter table swapped attach partition swapped_a for values from (100) to (200);
    alter table swapped attach partition swapped_b for values from (0) to (100);
    alter table other detach partition other_a;
    update other_rest set v = 'w' where id = 150;
    insert into other_rest select id, 'x' from other_a where id < 50;
    delete from other_a where id < 50;
    alter table other attach partition other_a for values from (50) to (100);
";

/// How many lookups the server's log has that were made in this relation.
fn lookups(server: &Server, relation: &str) -> usize {
    let log = server.log();
    let in_database = format!("@{} ", server.database());
    let join = format!(" join {relation} as r on ");
    log.lines().filter(|line| line.contains(&in_database) && line.contains(&join)).count()
}

async fn a_key_says_where_its_row_is() {
    let gap = Gap::between(BEFORE, DURING).await;
    let excluded = ["--exclude", "public.many"];
    let run = program(&gap, "row-versions", &excluded).run().await;
    run.assert_completed();
    for table in ["parted", "swapped", "other", "hashed"] {
        let found = run.table("report", &format!("public.{table}"));
        assert_eq!(found["strategy"], "row-versions", "{found}");
    }
    let tables = ["parted", "swapped", "other", "hashed"];
    assert_events_turn_base_into_head(&gap, &tables, &run.events("events")).await;
    assert_eq!(run.counts("report", "public.hashed"), (0, 3, 0));
    for server in [&gap.base, &gap.head] {
        let in_root = lookups(server, r#""public"."parted""#);
        assert_eq!(in_root, 0, "lookups in all partitions");
        let in_partitions: usize =
            (0..40).map(|part| lookups(server, &format!(r#""public"."parted_{part}""#))).sum();
        assert!(in_partitions > 0, "no lookup was seen");
    }
    assert!(lookups(&gap.base, r#""public"."swapped""#) > 0);
    assert!(lookups(&gap.base, r#""public"."other""#) > 0);
}

/// To look into each costs more than to read it all.
async fn many_small_partitions_are_read_as_one_table() {
    let gap = Gap::between(BEFORE, DURING).await;
    let run = program(&gap, "auto", &["--table", "public.many", "--table", "public.parted"]);
    let run = run.run().await;
    run.assert_completed();
    let found = run.table("report", "public.many");
    assert_eq!(found["strategy"], "full", "{found}");
    let reason = found["strategy_reason"].as_str().unwrap();
    assert!(reason.contains("150 partitions"), "{reason}");
    assert_eq!(run.counts("report", "public.many"), (0, 15, 0));
    assert_eq!(run.table("report", "public.parted")["strategy"], "row-versions");
}

tests! {
    many_small_partitions_are_read_as_one_table,
    a_key_says_where_its_row_is: majors,
}
