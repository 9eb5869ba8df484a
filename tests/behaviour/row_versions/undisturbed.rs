//! What row versions stay comparable through.

use super::*;

const COMPARABLE: &str = "row versions are comparable";

/// A case that stays with `row-versions`.
const fn case(
    table: &'static str,
    before: &'static [&'static str],
    during: &'static [&'static str],
    changes: (u64, u64, u64),
) -> Case {
    Case {
        table,
        before,
        during,
        strategy: "row-versions",
        reason: COMPARABLE,
        changes: Some(changes),
    }
}

const CASES: &[Case] = &[
    case(
        "vacuumed",
        &["create table vacuumed (id int primary key, v text);
           create publication shop for all tables with (publish_via_partition_root);
           insert into vacuumed select i, 'v' || i from generate_series(1, 3000) i"],
        &[
            "delete from vacuumed where id % 3 = 0",
            "vacuum vacuumed",
            "insert into vacuumed select i, 'new' from generate_series(4000, 4500) i",
        ],
        (501, 0, 1000),
    ),
    case(
        "frozen_before",
        &[
            "create table frozen_before (id int primary key, v text);
             insert into frozen_before select i, 'v' || i from generate_series(1, 1000) i",
            "vacuum freeze frozen_before",
        ],
        &["update frozen_before set v = 'w' where id = 7", "vacuum freeze frozen_before"],
        (0, 1, 0),
    ),
    case(
        "frozen_in_the_gap",
        &["create table frozen_in_the_gap (id int primary key, v text);
           insert into frozen_in_the_gap select i, 'v' || i from generate_series(1, 1000) i"],
        &[
            "update frozen_in_the_gap set v = 'w' where id = 7",
            "vacuum freeze frozen_in_the_gap",
            "delete from frozen_in_the_gap where id = 8",
        ],
        (0, 1, 1),
    ),
    case(
        "hot",
        &["create table hot (id int primary key, v int) with (fillfactor = 30);
           insert into hot select i, i from generate_series(1, 500) i"],
        &[
            "update hot set v = v + 1 where id % 2 = 0",
            "update hot set v = v + 1 where id % 4 = 0",
            "update hot set v = v - 2 where id % 8 = 0",
            // Prunes the chains.
            "select count(*) from hot where v > 0",
            "update hot set v = 0 where id = 1",
        ],
        (0, 188 + 1, 0),
    ),
    case(
        "aborted",
        &["create table aborted (id int primary key, v int);
           insert into aborted select i, i from generate_series(1, 500) i"],
        &[
            "begin; update aborted set v = -1; insert into aborted values (1000, 1); rollback",
            "begin; delete from aborted where id < 100; rollback",
            "vacuum aborted",
            "begin; update aborted set v = 0 where id = 1; savepoint a;
             update aborted set v = -2 where id <= 2; rollback to a;
             insert into aborted values (1000, 2); savepoint b; delete from aborted where id = 3;
             release b; commit",
        ],
        (1, 1, 1),
    ),
    case(
        "locked",
        &[
            "create table locked (id int primary key, v int);
             insert into locked select i, i from generate_series(1, 500) i",
            "begin; select from locked where id <= 20 for share; commit",
        ],
        &[
            "begin; select from locked where id <= 100 for update; commit",
            "begin; select from locked where id > 50 for key share; savepoint a;
             select from locked where id > 60 for update; rollback to a;
             select from locked where id > 70 for no key update; savepoint b;
             update locked set v = 0 where id = 80; commit",
            "begin; select from locked where id > 50 for share; savepoint a;
             delete from locked where id = 90; rollback to a; commit",
            "vacuum freeze locked",
        ],
        (0, 1, 0),
    ),
    case(
        "column_added",
        &["create table column_added (id int primary key, v int);
           insert into column_added select i, i from generate_series(1, 500) i"],
        &[
            "alter table column_added add w text not null default 'w', add x int",
            "update column_added set v = 0, w = 'x' where id = 7",
            "update column_added set w = 'only w' where id = 8",
            "insert into column_added values (501, 1, 'y')",
        ],
        (1, 1, 0),
    ),
    case(
        "default_before",
        &["create table default_before (id int primary key);
           insert into default_before select generate_series(1, 300);
           alter table default_before add v text default 'v'"],
        &["alter table default_before alter v set default 'w'",
          "update default_before set v = 'w' where id = 4",
          "alter table default_before alter v drop default",
          "insert into default_before values (301)"],
        (1, 1, 0),
    ),
    case(
        "column_dropped",
        &["create table column_dropped (a text, id int primary key, v int);
           insert into column_dropped select 'a', i, i from generate_series(1, 300) i"],
        &["alter table column_dropped drop a", "update column_dropped set v = 0 where id = 4"],
        (0, 1, 0),
    ),
    case(
        "rewritten_equal",
        &["create table rewritten_equal (id int primary key, v text, n numeric);
           insert into rewritten_equal select i, 'v', 1.0 from generate_series(1, 2000) i"],
        &[
            "update rewritten_equal set v = v",
            "delete from rewritten_equal where id <= 500",
            "insert into rewritten_equal select i, 'v', 1.0 from generate_series(1, 500) i",
            "update rewritten_equal set n = 1.00 where id = 700",
        ],
        (0, 1, 0),
    ),
    case(
        "toasted",
        &["create table toasted (id int primary key, v text, n int);
           alter table toasted alter v set storage external;
           insert into toasted select i, repeat(md5(i::text), 300), i from generate_series(1, 60) i"],
        &[
            "update toasted set n = 0 where id <= 10",
            "update toasted set v = v || 'x' where id between 11 and 20",
            "update toasted set v = v, n = n where id between 21 and 30",
            "update toasted set v = repeat(md5(id::text), 300) where id between 31 and 40",
            "alter table toasted alter v set storage extended",
            "update toasted set v = v || '' where id between 41 and 50",
            "vacuum toasted",
        ],
        (0, 20, 0),
    ),
    case(
        "tail_truncated",
        &["create table tail_truncated (id int primary key, v text);
           insert into tail_truncated select i, repeat('v', 100) from generate_series(1, 3000) i"],
        &[
            "delete from tail_truncated where id > 1000",
            "vacuum tail_truncated",
            "insert into tail_truncated select i, repeat('v', 100) from generate_series(2991, 3100) i",
        ],
        (100, 0, 1990),
    ),
    case(
        "grew",
        &["create table grew (id int primary key)"],
        &["insert into grew select generate_series(1, 1000)"],
        (1000, 0, 0),
    ),
    case(
        "emptied",
        &["create table emptied (id int primary key);
           insert into emptied select generate_series(1, 1000)"],
        &["delete from emptied", "vacuum emptied"],
        (0, 0, 1000),
    ),
    case("always_empty", &["create table always_empty (id int primary key)"], &[], (0, 0, 0)),
    case(
        "reused",
        &["create table reused (id int primary key, v int);
           insert into reused select i, 0 from generate_series(1, 2000) i"],
        &[
            "delete from reused",
            "vacuum (truncate false) reused",
            "insert into reused select i, case when i > 1990 then 1 else 0 end
               from generate_series(2000, 1, -1) i",
        ],
        (0, 10, 0),
    ),
    case(
        "copied_frozen",
        &["begin; create table copied_frozen (id int primary key);
           copy copied_frozen from program 'seq 1000' with (freeze); commit"],
        &["delete from copied_frozen where id = 3"],
        (0, 0, 1),
    ),
    // Old and new versions lie far apart.
    case(
        "far_updates",
        &["create table far_updates (id int primary key, v text);
           insert into far_updates select i, repeat('v', 200) from generate_series(1, 3000) i"],
        &["update far_updates set v = repeat('w', 201) where id % 5 = 0",
          "update far_updates set v = repeat('w', 202) where id % 10 = 0",
          "update far_updates set v = repeat('v', 200) where id % 50 = 0"],
        (0, 540, 0),
    ),
    case(
        "keys_again",
        &["create table keys_again (id int primary key, v text);
           insert into keys_again select i, repeat('v', 100) from generate_series(1, 1000) i"],
        &[
            "delete from keys_again where id <= 100",
            "insert into keys_again select i, repeat('x', 100) from generate_series(5001, 5100) i",
            "insert into keys_again select i, repeat(case when i <= 50 then 'v' else 'w' end, 100)
               from generate_series(1, 100) i",
        ],
        (100, 50, 0),
    ),
    case(
        "keys_swapped",
        &["create table keys_swapped (id int primary key, v text);
           insert into keys_swapped select i, repeat('v', 100) || i from generate_series(1, 1000) i"],
        &[
            "update keys_swapped set id = -1 where id = 1",
            "update keys_swapped set id = 1 where id = 999",
            "update keys_swapped set id = 999 where id = -1",
            // All keys of the first hundred move on by one.
            "update keys_swapped set id = -id where id between 101 and 200",
            "update keys_swapped set id = 101 + (-id - 100) % 100 where id < 0",
        ],
        (0, 102, 0),
    ),
    case(
        "numeric_key",
        &["create table numeric_key (id numeric primary key, v int);
           insert into numeric_key select i + 0.0, i from generate_series(1, 1000) i"],
        &["update numeric_key set id = id + 0.00 where id <= 10",
          "update numeric_key set v = 0 where id = 20",
          "update numeric_key set id = 'NaN' where id = 30"],
        (11, 1, 11),
    ),
    case(
        "folded_key",
        &["create extension if not exists citext;
           create table folded_key (id citext primary key, v int);
           insert into folded_key select 'key ' || i, i from generate_series(1, 1000) i"],
        &["update folded_key set id = upper(id) where v <= 10",
          "update folded_key set v = -1 where id = 'Key 20'",
          "delete from folded_key where v = 30"],
        (10, 1, 11),
    ),
    case(
        "composite_key",
        &["create table composite_key (a int, b text, c date, v int, primary key (b, c, a));
           insert into composite_key select i % 10, 'b' || i % 7, '2026-01-01'::date + i, i
             from generate_series(1, 2000) i"],
        &["update composite_key set v = 0 where a = 3",
          "update composite_key set a = a + 10 where v % 100 = 1",
          "delete from composite_key where b = 'b6' and a = 4"],
        (20, 200, 20 + 29),
    ),
    case(
        "by_index",
        &["create table by_index (id int primary key, code text not null, v int);
           create unique index by_code on by_index (code);
           alter table by_index replica identity using index by_code;
           insert into by_index select i, 'c' || i, i from generate_series(1, 1000) i"],
        &["update by_index set id = id + 10000 where id <= 10",
          "update by_index set code = 'd' || id where id between 20 and 29",
          "delete from by_index where id = 500"],
        (10, 10, 11),
    ),
    case(
        "moved",
        &["create table moved (id int, region text, v text, primary key (id, region))
             partition by list (region);
           create table moved_a (v text, region text not null, id int not null);
           alter table moved attach partition moved_a for values in ('a');
           create table moved_b partition of moved for values in ('b') partition by range (id);
           create table moved_b1 partition of moved_b for values from (0) to (500);
           create table moved_b2 partition of moved_b for values from (500) to (100000);
           insert into moved select i, case when i % 2 = 0 then 'a' else 'b' end, 'v' || i
             from generate_series(1, 1000) i"],
        &["update moved set region = 'b' where id = 2",
          "update moved set id = id + 1000 where region = 'b' and id < 10",
          "update moved set v = 'w' where id = 600",
          "update moved set region = 'b', v = 'there' where id = 700",
          "update moved set region = 'a', v = 'back' where id = 700 and region = 'b'"],
        (1 + 5, 2, 1 + 5),
    ),
    // Its key does not have the partition key's column as a part: rows move under one key.
    case(
        "hashed",
        &["create table hashed (id int primary key, v text) partition by hash (id);
           create table hashed_0 partition of hashed for values with (modulus 2, remainder 0);
           create table hashed_1 partition of hashed for values with (modulus 2, remainder 1);
           insert into hashed select i, 'v' from generate_series(1, 1000) i"],
        &["update hashed set id = id + 1 where id = 1000", "update hashed set v = 'w' where id < 50"],
        (1, 49, 1),
    ),
    case(
        "keyless",
        &["create table keyless (v text, n int);
           alter table keyless replica identity full;
           insert into keyless select 'v' || i % 50, i % 3 from generate_series(1, 2000) i"],
        &["update keyless set n = n where v = 'v1'",
          "delete from keyless where ctid in (select ctid from keyless where v = 'v2' limit 5)",
          "insert into keyless select v, n from keyless where v = 'v3' limit 7",
          "update keyless set n = 4 where v = 'v4' and n = 0"],
        (7 + 13, 0, 5 + 13),
    ),
    case(
        "inherited",
        &["create table inherited (id int primary key, v int);
           create table inheriting (w int, primary key (id)) inherits (inherited);
           insert into inherited select i, i from generate_series(1, 300) i;
           insert into inheriting select i, i, i from generate_series(1, 300) i"],
        &["update inherited set v = 0 where id = 5", "delete from only inherited where id = 6"],
        (0, 1, 1),
    ),
    case(
        "renamed_column_elsewhere",
        &["create table renamed_column_elsewhere (id int primary key, v int, w int);
           insert into renamed_column_elsewhere select i, i, i from generate_series(1, 300) i"],
        &["alter table renamed_column_elsewhere rename w to x",
          "update renamed_column_elsewhere set v = 0, x = 1 where id = 5"],
        (0, 1, 0),
    ),
    case(
        "options_changed",
        &["create table options_changed (id int primary key, v text);
           insert into options_changed select i, i from generate_series(1, 300) i"],
        &["alter table options_changed set (fillfactor = 50, autovacuum_enabled = false);
           alter table options_changed alter v set not null, alter v set default 'x',
             alter v set statistics 5, add check (id > 0), add unique (v);
           comment on table options_changed is 'x'; analyze options_changed;
           create index on options_changed (id, v)",
          "reindex table options_changed",
          "delete from options_changed where id = 1"],
        (0, 0, 1),
    ),
];

async fn row_versions_stay_comparable() {
    let gap = gap_of(CASES).await;
    let (auto, ranges, content) = tokio::join!(
        program(&gap, "auto", &[]).run(),
        program(&gap, "row-versions", &["--range-blocks", "6", "--parallel", "3"]).run(),
        program(&gap, "content", &["--range-blocks", "2"]).run(),
    );
    assert_cases(&gap, &auto, CASES).await;
    assert_cases(&gap, &ranges, CASES).await;
    content.assert_completed();
    assert_same_changes(&[auto, ranges, content]);
}

/// Transactions that are prepared when a restore is made are not part of it, whatever becomes of
/// them later.
const IN_DOUBT: &[Case] = &[
    case(
        "committed_later",
        &[
            "create table committed_later (id int primary key, v int);
             create publication shop for all tables;
             insert into committed_later select i, i from generate_series(1, 500) i",
            "begin; insert into committed_later values (1000, 1);
             update committed_later set v = 0 where id <= 10;
             delete from committed_later where id = 20; prepare transaction 'later'",
        ],
        &["update committed_later set v = 0 where id = 30", "commit prepared 'later'"],
        (1, 11, 1),
    ),
    case(
        "rolled_back_later",
        &[
            "create table rolled_back_later (id int primary key, v int);
             insert into rolled_back_later select i, i from generate_series(1, 500) i",
            "begin; insert into rolled_back_later values (1000, 1);
             update rolled_back_later set v = 0 where id <= 10; prepare transaction 'never'",
        ],
        &[
            "rollback prepared 'never'",
            "vacuum rolled_back_later",
            "insert into rolled_back_later values (1001, 2)",
        ],
        (1, 0, 0),
    ),
    case(
        "in_doubt_at_both",
        &[
            "create table in_doubt_at_both (id int primary key, v int);
             insert into in_doubt_at_both select i, i from generate_series(1, 500) i",
            "begin; insert into in_doubt_at_both values (1000, 1);
             update in_doubt_at_both set v = 0 where id <= 10; prepare transaction 'both'",
        ],
        &["update in_doubt_at_both set v = 0 where id = 400", "vacuum in_doubt_at_both"],
        (0, 1, 0),
    ),
    case(
        "in_doubt_at_head",
        &["create table in_doubt_at_head (id int primary key, v int);
           insert into in_doubt_at_head select i, i from generate_series(1, 500) i"],
        &[
            "begin; insert into in_doubt_at_head values (1000, 1);
           delete from in_doubt_at_head where id <= 10; prepare transaction 'at head'",
            "delete from in_doubt_at_head where id = 11",
        ],
        (0, 0, 1),
    ),
];

async fn transactions_in_doubt_are_not_part_of_a_restore() {
    let conf = vec!["max_prepared_transactions = 10".to_owned()];
    let gap = own_gap_of(Options { conf, ..Options::default() }, IN_DOUBT).await;
    let auto = program(&gap, "auto", &[]).run().await;
    assert_cases(&gap, &auto, IN_DOUBT).await;
}

tests! {
    row_versions_stay_comparable: majors seconds(600),
    transactions_in_doubt_are_not_part_of_a_restore: own_servers seconds(600),
}
