//! What makes row versions incomparable.

use super::*;

const REWRITTEN: &str = "was rewritten in the gap";
const MEANING: &str = "changed their meaning";
const ANEW: &str = "created anew";

const CASES: &[Case] = &[
    Case {
        table: "vacuum_full",
        before: &["create table vacuum_full (id int primary key, v text);
                   create publication shop for all tables with (publish_via_partition_root);
                   insert into vacuum_full select i, 'v' || i from generate_series(1, 2000) i"],
        during: &[
            "delete from vacuum_full where id % 3 = 0",
            "update vacuum_full set v = 'new' where id % 100 = 1",
            "vacuum full vacuum_full",
            "insert into vacuum_full values (3, 'again')",
        ],
        strategy: "content",
        reason: REWRITTEN,
        changes: Some((0, 15, 665)),
    },
    Case {
        table: "clustered",
        before: &["create table clustered (id int primary key, v int);
                   create index by_v on clustered (v);
                   insert into clustered select i, 1000 - i from generate_series(1, 1000) i"],
        during: &["cluster clustered using by_v", "update clustered set v = -1 where id = 5"],
        strategy: "content",
        reason: REWRITTEN,
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "truncated",
        before: &["create table truncated (id int primary key, v text);
                   insert into truncated select i, 'v' from generate_series(1, 1000) i"],
        during: &["truncate truncated; insert into truncated
                     select i, case i when 7 then 'w' else 'v' end from generate_series(2, 1001) i"],
        strategy: "content",
        reason: REWRITTEN,
        changes: Some((1, 1, 1)),
    },
    // What pg_repack does: another file under the same oid, built from a copy.
    Case {
        table: "repacked",
        before: &["create table repacked (id int primary key, v int);
                   insert into repacked select i, i from generate_series(1, 1000) i"],
        during: &[
            "delete from repacked where id < 300",
            "create table public.repack_copy (like repacked including indexes);
             insert into repack_copy select * from repacked order by id desc;
             update pg_class c set relfilenode = n.relfilenode
               from (values ('repacked'::regclass, 'repack_copy'::regclass),
                            ('repack_copy', 'repacked'),
                            ('repacked_pkey', 'repack_copy_pkey'),
                            ('repack_copy_pkey', 'repacked_pkey')) s (oid, other)
               join pg_class n on n.oid = s.other
              where c.oid = s.oid;
             drop table repack_copy",
            "update repacked set v = -1 where id = 1000",
        ],
        strategy: "content",
        reason: REWRITTEN,
        changes: Some((0, 1, 299)),
    },
    Case {
        table: "renamed_over",
        before: &["create table renamed_over (id int primary key, v int);
                   insert into renamed_over select i, i from generate_series(1, 100) i"],
        during: &["create table copy_of_it (like renamed_over including indexes);
                   insert into copy_of_it select id, nullif(v, 9) from renamed_over;
                   drop table renamed_over;
                   alter table copy_of_it rename to renamed_over"],
        strategy: "content",
        reason: ANEW,
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "created_anew",
        before: &["create table created_anew (id int primary key, v text);
                   insert into created_anew select i, 'v' from generate_series(1, 100) i"],
        during: &["drop table created_anew;
                   create table created_anew (v text, w int, id int primary key);
                   insert into created_anew select nullif('v', repeat('v', i % 10)), i, i
                     from generate_series(1, 99) i"],
        strategy: "content",
        reason: ANEW,
        changes: Some((0, 10, 1)),
    },
    Case {
        table: "widened",
        before: &["create table widened (id int primary key, v int);
                   insert into widened select i, i from generate_series(1, 100) i"],
        during: &["alter table widened alter v type bigint",
                  "update widened set v = 5000000000 where id = 1"],
        strategy: "content",
        reason: REWRITTEN,
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "key_widened",
        before: &["create table key_widened (id int primary key, v int);
                   insert into key_widened select i, i from generate_series(1, 100) i"],
        during: &["alter table key_widened alter id type bigint",
                  "insert into key_widened values (5000000000)"],
        strategy: "content",
        reason: REWRITTEN,
        changes: Some((1, 0, 0)),
    },
    Case {
        table: "untyped",
        before: &["create table untyped (id int primary key, v varchar(10), n numeric(10, 2));
                   insert into untyped select i, i, i from generate_series(1, 100) i"],
        during: &["alter table untyped alter v type text",
                  "update untyped set v = 'longer than ten' where id = 1"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "modifier",
        before: &["create table modifier (id int primary key, n numeric(10, 2));
                   insert into modifier select i, i from generate_series(1, 100) i"],
        during: &["alter table modifier alter n type numeric(12, 2)",
                  "update modifier set n = 1234567890.12 where id = 1"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "collated",
        before: &["create table collated (id int primary key, v text);
                   insert into collated select i, i from generate_series(1, 100) i"],
        during: &["alter table collated alter v type text collate \"POSIX\""],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 0, 0)),
    },
    Case {
        table: "column_again",
        before: &["create table column_again (id int primary key, v text);
                   insert into column_again select i, 'v' from generate_series(1, 100) i"],
        during: &["alter table column_again drop v;
                   alter table column_again add v text default 'w'",
                  "update column_again set v = 'v' where id <= 10"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 90, 0)),
    },
    Case {
        table: "names_swapped",
        before: &["create table names_swapped (id int primary key, a text, b text);
                   insert into names_swapped select i, 'a', case when i > 10 then 'b' else 'a' end
                     from generate_series(1, 100) i"],
        during: &["alter table names_swapped rename a to c;
                   alter table names_swapped rename b to a;
                   alter table names_swapped rename c to b"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 90, 0)),
    },
    Case {
        table: "label_renamed",
        before: &["create type size as enum ('s', 'm', 'l');
                   create table label_renamed (id int primary key, v size, w size[]);
                   insert into label_renamed select i, case when i % 2 = 0 then 's' else 'm' end::size,
                     array['l']::size[] from generate_series(1, 100) i"],
        during: &["alter type size rename value 's' to 'small'"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 50, 0)),
    },
    Case {
        table: "labels_swapped",
        before: &["create type onoff as enum ('on', 'off');
                   create domain switch as onoff;
                   create table labels_swapped (id int primary key, v switch);
                   insert into labels_swapped select i, 'on' from generate_series(1, 100) i"],
        during: &["alter type onoff rename value 'on' to 'x';
                   alter type onoff rename value 'off' to 'on';
                   alter type onoff rename value 'x' to 'off'"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 100, 0)),
    },
    Case {
        table: "label_added",
        before: &["create type tone as enum ('c', 'd');
                   create table label_added (id int primary key, v tone);
                   insert into label_added select i, 'c' from generate_series(1, 100) i"],
        during: &["alter type tone add value 'cis' after 'c'",
                  "update label_added set v = 'cis' where id = 4"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "attribute_added",
        before: &["create type spot as (x int, y int);
                   create table attribute_added (id int primary key, v spot, w spot[]);
                   insert into attribute_added select i, row(i, i)::spot, array[row(1, i)::spot]
                     from generate_series(1, 100) i"],
        during: &["alter type spot add attribute z int"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 100, 0)),
    },
    Case {
        table: "zoned",
        before: &["create table zoned (id int primary key, v timestamp);
                   insert into zoned select i, '2026-01-01'::timestamp + i * interval '1 h'
                     from generate_series(1, 100) i"],
        during: &["set timezone = 'UTC'; alter table zoned alter v type timestamptz"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 100, 0)),
    },
    Case {
        table: "refers",
        before: &["create table referred (id int);
                   create table refers (id int primary key, v regclass, w regrole[]);
                   insert into refers values (1, 'referred'), (2, 'refers'), (3, null)"],
        during: &["alter table referred rename to still_referred"],
        strategy: "content",
        reason: "depends on more than its stored bytes",
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "domained",
        before: &["create domain one as varchar; create domain two as text;
                   create table domained (id int primary key, v one);
                   insert into domained select i, i from generate_series(1, 100) i"],
        during: &["alter table domained alter v type two",
                  "update domained set v = 'x' where id = 1"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "extended",
        before: &["create extension citext version '1.5';
                   create table extended (id int primary key, v citext);
                   insert into extended select i, 'v' from generate_series(1, 100) i"],
        during: &["alter extension citext update to '1.6'",
                  "update extended set v = 'V' where id = 1"],
        strategy: "content",
        reason: MEANING,
        changes: Some((0, 1, 0)),
    },
    Case {
        table: "attached",
        before: &["create table attached (id int, v text, primary key (id)) partition by range (id);
                   create table attached_1 partition of attached for values from (0) to (100);
                   create table attached_2 (v text, id int primary key);
                   insert into attached select i, 'v' from generate_series(1, 50) i;
                   insert into attached_2 select 'v', i from generate_series(100, 150) i"],
        during: &["alter table attached attach partition attached_2 for values from (100) to (200)",
                  "update attached set v = 'w' where id in (1, 100)"],
        strategy: "content",
        reason: "its partitions are not the same",
        changes: Some((51, 1, 0)),
    },
    Case {
        table: "detached",
        before: &["create table detached (id int, v text, primary key (id)) partition by range (id);
                   create table detached_1 partition of detached for values from (0) to (100);
                   create table detached_2 partition of detached for values from (100) to (200);
                   insert into detached select i, 'v' from generate_series(51, 150) i"],
        during: &["alter table detached detach partition detached_2",
                  "update detached set v = 'w' where id = 60"],
        strategy: "content",
        reason: "its partitions are not the same",
        changes: Some((0, 1, 51)),
    },
    Case {
        table: "exchanged",
        before: &["create table exchanged (id int, v text, primary key (id)) partition by range (id);
                   create table exchanged_1 partition of exchanged for values from (0) to (100);
                   insert into exchanged select i, 'v' from generate_series(1, 50) i"],
        during: &["alter table exchanged detach partition exchanged_1;
                   create table exchanged_2 (id int primary key, v text);
                   insert into exchanged_2 select id, nullif(v, 'v') from exchanged_1 where id < 9;
                   alter table exchanged attach partition exchanged_2 for values from (0) to (100)"],
        strategy: "content",
        reason: "is not a part of it on both sides",
        changes: Some((0, 8, 42)),
    },
    Case {
        table: "leaf_rewritten",
        before: &["create table leaf_rewritten (id int, v text, primary key (id))
                     partition by range (id);
                   create table leaf_rewritten_1 partition of leaf_rewritten
                     for values from (0) to (100);
                   create table leaf_rewritten_2 partition of leaf_rewritten
                     for values from (100) to (200);
                   insert into leaf_rewritten select i, 'v' from generate_series(51, 150) i"],
        during: &["delete from leaf_rewritten where id = 51", "vacuum full leaf_rewritten_2"],
        strategy: "content",
        reason: "leaf_rewritten_2 was rewritten",
        changes: Some((0, 0, 1)),
    },
    Case {
        table: "logged",
        before: &["create unlogged table logged (id int primary key);
                   insert into logged select generate_series(1, 100)"],
        during: &["alter table logged set logged"],
        strategy: "content",
        reason: REWRITTEN,
        // A restore begins with an unlogged table empty.
        changes: Some((100, 0, 0)),
    },
    Case {
        table: "new_table",
        before: &[],
        during: &["create table new_table (id int primary key, v text);
                   insert into new_table select i, 'v' from generate_series(1, 100) i"],
        strategy: "full",
        reason: "it is not on base",
        changes: Some((100, 0, 0)),
    },
    Case {
        table: "exchanged_names",
        before: &["create table exchanged_names (id int primary key, v text);
                   create table other_name (id int primary key, v text);
                   insert into exchanged_names select i, 'v' from generate_series(1, 100) i;
                   insert into other_name select i, 'w' from generate_series(1, 100) i"],
        during: &["alter table exchanged_names rename to third_name;
                   alter table other_name rename to exchanged_names;
                   alter table third_name rename to other_name"],
        strategy: "content",
        reason: ANEW,
        changes: Some((0, 100, 0)),
    },
];

async fn whatever_changes_files_or_meanings_falls_to_contents() {
    let gap = gap_of(CASES).await;
    let (auto, full) =
        tokio::join!(program(&gap, "auto", &[]).run(), program(&gap, "full", &[]).run(),);
    assert_cases(&gap, &auto, CASES).await;
    full.assert_completed();
    assert_same_changes(&[auto, full]);
}

tests! {
    whatever_changes_files_or_meanings_falls_to_contents: majors seconds(600),
}
