//! The tables, their publications, and what happens to them.

const TABLES: &str = r#"
    create table plain (id int primary key, a int, b text);
    create table rekeyed (id int primary key, a int, b text);
    create table indexed (id int primary key, login text not null, a int);
    create unique index indexed_login on indexed (login);
    alter table indexed replica identity using index indexed_login;
    create table whole (id int primary key, a int, b text);
    alter table whole replica identity full;
    create table bag (a int, b text);
    alter table bag replica identity full;
    create table truncated (id int primary key, a int);
    create table computed (id int primary key, a int, twice int generated always as (a * 2) stored);
    create table parent (id int primary key, a int);
    create table child (extra text, primary key (id)) inherits (parent);

    create table part (id int, place text, v int, primary key (id, place)) partition by list (place);
    create table part_a partition of part for values in ('a');
    create table part_b partition of part for values in ('b', 'c') partition by list (place);
    create table part_b_1 partition of part_b for values in ('b');
    create table part_b_2 partition of part_b for values in ('c');
    -- A partition whose columns lie in another order.
    create table far_part_b (v int, place text not null, id int not null, primary key (id, place));
    alter table part attach partition far_part_b for values in ('far');

    create table filtered (id int primary key, a int, b text);
    create table filtered_full (id int primary key, a int, b text);
    alter table filtered_full replica identity full;
    create table listed (id int primary key, a int, b text, c text);
    create table narrow (id int primary key, region text not null, a int, b text);
    create unique index narrow_identity on narrow (id, region);
    alter table narrow replica identity using index narrow_identity;
    create table shared (id int primary key, region text, v int);
    alter table shared replica identity full;
    create schema sold;
    create table sold.one (id int primary key, v text);
    create table sold.two (id int primary key, v text);

    -- What no publication has.
    create unlogged table fast (id int primary key, a int);
    create view seen as select * from plain;
    create materialized view kept as select * from plain;
    create foreign data wrapper nowhere;
    create server nowhere foreign data wrapper nowhere;
    create foreign table far (id int) server nowhere;

    create table nothing (id int primary key, a int);
    alter table nothing replica identity nothing;

    insert into plain select i, i, 'b' || i from generate_series(1, 100) i;
    insert into rekeyed select i, i, 'b' || i from generate_series(1, 100) i;
    insert into indexed select i, 'login ' || i, i from generate_series(1, 100) i;
    insert into whole select i, i, 'b' || i from generate_series(1, 100) i;
    insert into bag select i / 3, 'b' || i / 6 from generate_series(1, 100) i;
    insert into truncated select i, i from generate_series(1, 100) i;
    insert into computed select i, i from generate_series(1, 100) i;
    insert into parent select i, i from generate_series(1, 100) i;
    insert into child select i, i, 'x' from generate_series(1, 100) i;
    insert into part select i, (array['a', 'b', 'c', 'far'])[1 + i % 4], i
      from generate_series(1, 100) i;
    insert into filtered select i, i, 'b' || i from generate_series(1, 100) i;
    insert into filtered_full select i, i % 20, 'b' || i from generate_series(1, 100) i;
    insert into listed select i, i, 'b' || i, 'c' || i from generate_series(1, 100) i;
    insert into narrow select i, (array['eu', 'us'])[1 + i % 2], i, 'b' || i
      from generate_series(1, 100) i;
    insert into shared select i, (array['east', 'west', 'north', null])[1 + i % 4], i
      from generate_series(1, 100) i;
    insert into sold.one select i, 'v' || i from generate_series(1, 100) i;
    insert into sold.two select i, 'v' || i from generate_series(1, 100) i;
    insert into fast select i, i from generate_series(1, 100) i;
    insert into nothing select i, i from generate_series(1, 100) i;
"#;

/// `nothing` may be in none that publishes updates: PostgreSQL would refuse them. So `everything`
/// names its tables, and the publication for all tables comes at the end.
const PUBLICATIONS: &str = r#"
    create publication everything for table
      plain, rekeyed, indexed, whole, bag, truncated, computed, parent, part, filtered,
      filtered_full, listed, narrow, shared, sold.one, sold.two;
    create publication roots for table part, plain with (publish_via_partition_root = true);
    create publication part_a_alone for table part_a;
    create publication family for table parent;
    create publication parent_alone for table only parent;
    create publication inserts for table plain with (publish = 'insert');
    create publication no_deletes for table plain with (publish = 'insert, update, truncate');
    create publication no_truncates for table truncated with (publish = 'insert, update, delete');
    create publication nothing_identifies for table nothing with (publish = 'insert');
"#;

const SINCE_15: &str = r#"
    create publication rows for table
      filtered where (id > 50), filtered_full where (a > 10), listed (id, a, c),
      narrow (id, region, a) where (region = 'eu');
    create publication part_filtered for table part where (id > 20)
      with (publish_via_partition_root = true);
    create publication leaf_filtered for table part_a where (id > 20), part_b_1;
    create publication in_schema for tables in schema sold;
    create publication east for table shared where (region = 'east');
    create publication west for table shared where (region = 'west');
"#;

const SINCE_18: &str = r#"
    alter table computed add column thrice int generated always as (a * 3) virtual;
    create publication generated for table computed with (publish_generated_columns = stored);
    create publication generated_list for table computed (id, twice);
"#;

/// All that is there before the gap.
pub(super) fn schema(major: u32) -> Vec<&'static str> {
    let mut statements = vec![TABLES, PUBLICATIONS];
    if major >= 15 {
        statements.push(SINCE_15);
    }
    if major >= 18 {
        statements.push(SINCE_18);
    }
    statements
}

/// The gap, one transaction each.
pub(super) const STATEMENTS: &[&str] = &[
    "update plain set a = -a where id <= 10; delete from plain where id between 11 and 15; \
     insert into plain select i, i, 'new' from generate_series(101, 110) i; \
     update plain set b = null where id = 20; update plain set b = b where id = 21",
    "update rekeyed set id = id + 1000 where id <= 10",
    "update rekeyed set a = -a where id between 20 and 25",
    "update indexed set a = -a where id <= 10; update indexed set login = 'new ' || id where id = 5; \
     update indexed set id = id + 1000 where id between 20 and 25; \
     delete from indexed where id between 30 and 35",
    "update whole set a = -a where id <= 10; update whole set id = id + 1000 where id = 20; \
     delete from whole where id between 30 and 35; update whole set b = null where id = 40; \
     delete from whole where id = 40",
    "update bag set a = -a where a = 3; delete from bag where a = 5; \
     insert into bag values (7, 'b3'), (null, null)",
    "truncate truncated; insert into truncated select i, i % 2 from generate_series(50, 120) i; \
     update truncated set a = 7 where id = 60; delete from truncated where id = 61",
    "update computed set a = a + 1 where id <= 10; insert into computed values (200, 1); \
     delete from computed where id = 20",
    "update parent set a = -a where id <= 5",
    "delete from only parent where id = 50; delete from child where id = 60; \
     insert into child values (200, 1, 'y'); insert into parent values (300, 1)",
    // Rows that stay, that move from one partition to the next, and that come and go.
    "update part set v = -v where id <= 40",
    "update part set place = 'b' where place = 'a' and id between 10 and 30",
    "update part set place = 'far' where place = 'c' and id between 15 and 60",
    "update part set place = 'a' where place = 'far' and id between 5 and 25",
    "delete from part where id between 70 and 75; \
     insert into part select i, 'abc'::char, i from generate_series(200, 205) i; \
     insert into part select i, 'b', i from generate_series(206, 208) i; \
     update part set id = id + 500 where id between 8 and 12; \
     update part set id = id - 300 where id between 206 and 207",
    // Through a filter on the key: stays in, stays out, enters, leaves.
    "update filtered set a = -a where id between 45 and 55; \
     update filtered set id = id + 1000 where id between 1 and 5; \
     update filtered set id = id - 2000 where id between 96 and 100; \
     delete from filtered where id in (10, 90); \
     insert into filtered values (-1, 0, 'out'), (5000, 0, 'in')",
    // Through a filter on any column.
    "update filtered_full set a = a + 5 where id <= 40; \
     update filtered_full set a = null where id between 41 and 50; \
     update filtered_full set b = 'new' where id between 51 and 60; \
     update filtered_full set a = a - 15 where id between 61 and 75; \
     delete from filtered_full where id between 90 and 95; \
     insert into filtered_full values (200, 5, 'out'), (201, 15, 'in'), (202, null, 'out')",
    // Columns that are not sent.
    "update listed set b = 'unseen' where id <= 10; update listed set c = 'seen' where id between 8 and 15; \
     insert into listed values (200, 1, 'unseen', 'seen'); delete from listed where id = 30",
    "update narrow set region = 'eu' where id between 1 and 10; \
     update narrow set region = 'us' where id between 20 and 30; \
     update narrow set b = 'unseen' where id between 40 and 45; \
     update narrow set a = -a where id between 44 and 50; \
     delete from narrow where id between 60 and 65; \
     insert into narrow values (200, 'eu', 1, 'x'), (201, 'us', 1, 'x')",
    "update shared set region = 'west' where region = 'east' and id <= 20; \
     update shared set region = 'north' where region = 'west' and id between 30 and 40; \
     update shared set region = 'east' where region is null and id between 50 and 60; \
     update shared set v = -v where id between 70 and 80; delete from shared where id > 95; \
     insert into shared values (200, 'east', 1), (201, 'west', 1), (202, null, 1)",
    "update sold.one set v = 'new' where id <= 10; delete from sold.two where id > 90; \
     insert into sold.two values (200, 'new')",
    "insert into nothing values (200, 1); update nothing set a = -a where id < 5; \
     delete from nothing where id > 95",
    "update fast set a = -a; insert into fast values (200, 1); refresh materialized view kept; \
     create temporary table brief (id int primary key); insert into brief values (1)",
    // Here, where it forbids nothing any more.
    "create publication for_all for all tables",
];
