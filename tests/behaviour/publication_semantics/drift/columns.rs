//! Columns and types.

use super::{CASE, Case, whole};

pub(super) const CASES: &[Case] = &[
    // The stream does not have generated columns, so that no key pairs its rows.
    Case {
        before: "create table generated_key (a int, \
                                             id int generated always as (a * 2) stored primary key); \
                 insert into generated_key select i from generate_series(1, 50) i",
        during: "insert into generated_key select i from generate_series(51, 60) i",
        table: "generated_key",
        key: &[],
        base: Some((&["a"], "generated_key", "true")),
        head: (&["a"], "generated_key", "true"),
        warnings: &["no key"],
        ..CASE
    },
    Case {
        before: "create table column_added (id int primary key, a int); \
                 insert into column_added select i, i from generate_series(1, 50) i",
        during: "alter table column_added add b int default 5; \
                 update column_added set b = 6 where id < 10; \
                 update column_added set a = -a where id between 5 and 15; \
                 insert into column_added values (100, 1, 2)",
        table: "column_added",
        base: Some(whole("column_added")),
        head: whole("column_added"),
        strategy: "row-versions",
        warnings: &["column added"],
        ..CASE
    },
    Case {
        before: "create table column_dropped (id int primary key, b int, a int); \
                 insert into column_dropped select i, i, i from generate_series(1, 50) i",
        during: "update column_dropped set b = 6 where id < 10; \
                 alter table column_dropped drop b; \
                 update column_dropped set a = -a where id between 5 and 15",
        table: "column_dropped",
        base: Some(whole("column_dropped")),
        head: whole("column_dropped"),
        strategy: "row-versions",
        warnings: &["column dropped"],
        ..CASE
    },
    Case {
        before: "create table column_renamed (id int primary key, a int, b int); \
                 insert into column_renamed select i, i, i from generate_series(1, 50) i",
        during: "update column_renamed set a = 6 where id < 10; \
                 alter table column_renamed rename a to c; \
                 update column_renamed set c = -c where id between 5 and 15; \
                 delete from column_renamed where id = 50; \
                 insert into column_renamed values (100, 1, 2)",
        table: "column_renamed",
        base: Some((&["id", "a as c", "b"], "column_renamed", "true")),
        head: (&["id", "c", "b"], "column_renamed", "true"),
        strategy: "row-versions",
        warnings: &["column renamed"],
        ..CASE
    },
    Case {
        before: "create table key_renamed (id int primary key, a int); \
                 insert into key_renamed select i, i from generate_series(1, 50) i",
        during: "update key_renamed set a = 6 where id < 10; \
                 alter table key_renamed rename id to number; \
                 delete from key_renamed where number = 50",
        table: "key_renamed",
        key: &["number"],
        base: Some((&["id as number", "a"], "key_renamed", "true")),
        head: (&["number", "a"], "key_renamed", "true"),
        strategy: "row-versions",
        warnings: &["column renamed"],
        ..CASE
    },
    // The same where rows are read: the file is another one.
    Case {
        before: "create table renamed_and_retyped (id int primary key, a int, b int); \
                 insert into renamed_and_retyped select i, i, i from generate_series(1, 50) i",
        during: "alter table renamed_and_retyped rename a to c; \
                 alter table renamed_and_retyped alter b type bigint; \
                 update renamed_and_retyped set c = -c where id between 5 and 15; \
                 update renamed_and_retyped set b = 5000000000 where id = 20; \
                 delete from renamed_and_retyped where id = 50",
        table: "renamed_and_retyped",
        base: Some((&["id", "a as c", "b"], "renamed_and_retyped", "true")),
        head: (&["id", "c", "b"], "renamed_and_retyped", "true"),
        strategy: "content",
        warnings: &["column renamed", "column retyped"],
        ..CASE
    },
    Case {
        before: "create table column_replaced (id int primary key, a int); \
                 insert into column_replaced select i, i from generate_series(1, 50) i",
        during: "alter table column_replaced drop a; alter table column_replaced add a int; \
                 update column_replaced set a = id where id < 10",
        table: "column_replaced",
        base: Some(whole("column_replaced")),
        head: whole("column_replaced"),
        strategy: "content",
        warnings: &["column replaced"],
        ..CASE
    },
    // One takes the other's name: by name, as downstream knows them.
    Case {
        before: "create table names_moved (id int primary key, a int, b int); \
                 insert into names_moved select i, i, 2 * i from generate_series(1, 50) i",
        during: "alter table names_moved drop a; alter table names_moved rename b to a",
        table: "names_moved",
        base: Some(whole("names_moved")),
        head: whole("names_moved"),
        strategy: "content",
        warnings: &["column replaced", "column dropped"],
        ..CASE
    },
    Case {
        before: "create type tone as enum ('c', 'd'); \
                 create table label_added (id int primary key, a tone, b tone[]); \
                 insert into label_added select i, 'c', '{d}' from generate_series(1, 50) i",
        during: "alter type tone add value 'cis' after 'c'; \
                 update label_added set a = 'cis' where id < 5",
        table: "label_added",
        base: Some((&["id", "a", "b"], "label_added", "true")),
        head: (&["id", "a", "b"], "label_added", "true"),
        warnings: &["type changed", "type changed"],
        ..CASE
    },
    Case {
        before: "create type spot as (x int); create table attribute_added (id int primary key, a spot); \
                 insert into attribute_added select i, row(i)::spot from generate_series(1, 50) i",
        during: "alter type spot add attribute y int; \
                 update attribute_added set a = row(1, 2)::spot where id < 5",
        table: "attribute_added",
        base: Some(whole("attribute_added")),
        head: whole("attribute_added"),
        warnings: &["type changed"],
        ..CASE
    },
];
