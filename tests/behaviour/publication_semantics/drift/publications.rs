//! The publications themselves.

use super::{CASE, Case, whole};

pub(super) const CASES: &[Case] = &[
    Case {
        publication: "altered",
        before: "create table member_added (id int primary key, a int); \
                 insert into member_added select i, i from generate_series(1, 50) i",
        during: "alter publication altered add table member_added; \
                 update member_added set a = -a where id < 5",
        table: "member_added",
        base: Some(whole("member_added")),
        head: whole("member_added"),
        warnings: &["published in the gap"],
        ..CASE
    },
    Case {
        publication: "altered",
        before: "create table member_renamed (id int primary key, a int); \
                 insert into member_renamed select i, i from generate_series(1, 50) i; \
                 alter publication altered add table member_renamed",
        during: "alter table member_renamed rename to member_now; \
                 update member_now set a = -a where id < 5",
        table: "member_now",
        base: Some(whole("member_renamed")),
        head: whole("member_now"),
        warnings: &["table renamed"],
        ..CASE
    },
    Case {
        since: 15,
        publication: "altered",
        before: "create table filter_changed (id int primary key, a int); \
                 insert into filter_changed select i, i from generate_series(1, 50) i; \
                 alter publication altered add table filter_changed where (id > 10)",
        during: "update filter_changed set a = -a where id % 7 = 0; \
                 alter publication altered drop table filter_changed; \
                 alter publication altered add table filter_changed where (id > 20 or id < 3)",
        table: "filter_changed",
        base: Some((&["id", "a"], "filter_changed", "id > 10")),
        head: (&["id", "a"], "filter_changed", "id > 20 or id < 3"),
        strategy: "content",
        warnings: &["row filter changed"],
        ..CASE
    },
    Case {
        since: 15,
        publication: "altered",
        before: "create table filter_added (id int primary key, a int); \
                 insert into filter_added select i, i from generate_series(1, 50) i; \
                 alter publication altered add table filter_added",
        during: "alter publication altered drop table filter_added; \
                 alter publication altered add table filter_added where (id > 20)",
        table: "filter_added",
        base: Some(whole("filter_added")),
        head: (&["id", "a"], "filter_added", "id > 20"),
        strategy: "content",
        warnings: &["row filter changed"],
        ..CASE
    },
    // A filter speaks of a column by the name that the column has there.
    Case {
        since: 15,
        publication: "altered",
        before: "create table filter_renamed (id int primary key, a int); \
                 alter table filter_renamed replica identity full; \
                 insert into filter_renamed select i, i from generate_series(1, 50) i; \
                 alter publication altered add table filter_renamed where (a > 10)",
        during: "alter table filter_renamed rename a to c; \
                 update filter_renamed set c = c - 8 where id % 3 = 0",
        table: "filter_renamed",
        base: Some((&["id", "a as c"], "filter_renamed", "a > 10")),
        head: (&["id", "c"], "filter_renamed", "c > 10"),
        warnings: &["row filter changed", "column renamed"],
        ..CASE
    },
    // Base has no such column; the rows were published by nobody there.
    Case {
        since: 15,
        publication: "altered",
        before: "create table filter_unknown (id int primary key, a int); \
                 alter table filter_unknown replica identity full; \
                 insert into filter_unknown select i, i from generate_series(1, 50) i",
        during: "alter table filter_unknown add column c int; \
                 update filter_unknown set c = id where id % 2 = 0; \
                 alter publication altered add table filter_unknown where (c > 30); \
                 update filter_unknown set c = 0 where id = 32",
        table: "filter_unknown",
        head: (&["id", "a", "c"], "filter_unknown", "c > 30"),
        warnings: &["filter not on base"],
        ..CASE
    },
    // Its column has another type there.
    Case {
        since: 15,
        publication: "altered",
        before: "create table filter_retyped (id int primary key, a int); \
                 alter table filter_retyped replica identity full; \
                 insert into filter_retyped select i, i from generate_series(1, 50) i",
        during: "alter table filter_retyped alter column a type text; \
                 alter publication altered add table filter_retyped where (length(a) = 1)",
        table: "filter_retyped",
        head: (&["id", "a"], "filter_retyped", "length(a) = 1"),
        warnings: &["filter not on base"],
        ..CASE
    },
    Case {
        since: 15,
        publication: "altered",
        before: "create table list_widened (id int primary key, a int, b int, c int); \
                 insert into list_widened select i, i, i, i from generate_series(1, 50) i; \
                 alter publication altered add table list_widened (id, a)",
        during: "update list_widened set b = -b where id < 5; \
                 alter publication altered drop table list_widened; \
                 alter publication altered add table list_widened (id, a, b); \
                 update list_widened set c = -c where id > 40",
        table: "list_widened",
        base: Some((&["id", "a", "b"], "list_widened", "true")),
        head: (&["id", "a", "b"], "list_widened", "true"),
        strategy: "row-versions",
        warnings: &["column published in the gap"],
        ..CASE
    },
    Case {
        since: 15,
        publication: "altered",
        before: "create table list_narrowed (id int primary key, a int, b int); \
                 insert into list_narrowed select i, i, i from generate_series(1, 50) i; \
                 alter publication altered add table list_narrowed",
        during: "update list_narrowed set b = -b where id < 5; \
                 update list_narrowed set a = -a where id > 40; \
                 alter publication altered drop table list_narrowed; \
                 alter publication altered add table list_narrowed (id, a)",
        table: "list_narrowed",
        base: Some(whole("list_narrowed")),
        head: whole("list_narrowed"),
        strategy: "row-versions",
        warnings: &["column no longer published"],
        ..CASE
    },
    Case {
        publication: "operations",
        before: "create table listed_operations (id int primary key, a int); \
                 insert into listed_operations select i, i from generate_series(1, 50) i; \
                 create publication operations for table listed_operations",
        during: "delete from listed_operations where id < 5; \
                 alter publication operations set (publish = 'insert, truncate'); \
                 update listed_operations set a = -a where id > 45",
        table: "listed_operations",
        base: Some(whole("listed_operations")),
        head: whole("listed_operations"),
        strategy: "row-versions",
        warnings: &["publish list", "publish list changed"],
        ..CASE
    },
];
