//! Tables that came, went, or are others now, with their keys; partitions that came and went.

use super::{CASE, Case, whole};

pub(super) const CASES: &[Case] = &[
    Case {
        before: "create table steady (id int primary key, a int); \
                 insert into steady select i, i from generate_series(1, 50) i",
        during: "update steady set a = -a where id < 5",
        table: "steady",
        base: Some(whole("steady")),
        head: whole("steady"),
        strategy: "row-versions",
        ..CASE
    },
    Case {
        during: "create table added (id int primary key, a int); \
                 insert into added select i, i from generate_series(1, 50) i",
        table: "added",
        head: whole("added"),
        warnings: &["table added"],
        ..CASE
    },
    Case {
        before: "create table old_name (id int primary key, a int); \
                 insert into old_name select i, i from generate_series(1, 50) i",
        during: "update old_name set a = -a where id < 5; alter table old_name rename to new_name; \
                 delete from new_name where id > 48; insert into new_name values (100, 1)",
        table: "new_name",
        base: Some(whole("old_name")),
        head: whole("new_name"),
        strategy: "row-versions",
        warnings: &["table renamed"],
        ..CASE
    },
    Case {
        before: "create table moved (id int primary key, a int); \
                 insert into moved select i, i from generate_series(1, 50) i",
        during: "alter table moved set schema elsewhere; update elsewhere.moved set a = 0 where id = 1",
        table: "elsewhere.moved",
        base: Some(whole("moved")),
        head: whole("elsewhere.moved"),
        strategy: "row-versions",
        warnings: &["table renamed"],
        ..CASE
    },
    // The old table goes on under another name: both are compared with it.
    Case {
        before: "create table reborn (id int primary key, a int); \
                 insert into reborn select i, i from generate_series(1, 50) i",
        during: "alter table reborn rename to reborn_old; delete from reborn_old where id = 7; \
                 create table reborn (a int, id int primary key); \
                 insert into reborn select i % 49, i from generate_series(1, 60) i",
        table: "reborn",
        base: Some(whole("reborn")),
        head: whole("reborn"),
        strategy: "content",
        warnings: &["table replaced"],
        ..CASE
    },
    Case {
        table: "reborn_old",
        base: Some(whole("reborn")),
        head: whole("reborn_old"),
        strategy: "row-versions",
        warnings: &["table renamed"],
        ..CASE
    },
    Case {
        before: "create table reordered (id int primary key, a int, b text); \
                 insert into reordered select i, i, 'b' || i from generate_series(1, 50) i",
        during: "create table reordered_new (b text, a int, id int primary key); \
                 insert into reordered_new select b, a, id from reordered where id <> 9; \
                 drop table reordered; alter table reordered_new rename to reordered; \
                 update reordered set b = 'new' where id = 1",
        table: "reordered",
        base: Some((&["id", "a", "b"], "reordered", "true")),
        head: (&["id", "a", "b"], "reordered", "true"),
        strategy: "content",
        warnings: &["table replaced"],
        ..CASE
    },
    Case {
        before: "create table key_grown (id int primary key, tenant int not null, a int); \
                 insert into key_grown select i, i % 3, i from generate_series(1, 50) i",
        during: "alter table key_grown drop constraint key_grown_pkey; \
                 alter table key_grown add primary key (tenant, id); \
                 update key_grown set a = -a where id < 5; \
                 update key_grown set tenant = 7 where id = 20; \
                 insert into key_grown values (20, 8, 1); delete from key_grown where id = 50",
        table: "key_grown",
        key: &["id", "tenant"],
        base: Some((&["id", "tenant", "a"], "key_grown", "true")),
        head: (&["id", "tenant", "a"], "key_grown", "true"),
        strategy: "row-versions",
        warnings: &["key changed"],
        ..CASE
    },
    // The new key is not unique on base.
    Case {
        before: "create table key_exchanged (id int primary key, code int not null, a int); \
                 insert into key_exchanged select i, i / 2, i from generate_series(1, 50) i",
        during: "alter table key_exchanged drop constraint key_exchanged_pkey; \
                 alter table key_exchanged replica identity full; \
                 update key_exchanged set code = id; update key_exchanged set a = -a where id < 5; \
                 alter table key_exchanged add primary key (code)",
        table: "key_exchanged",
        key: &[],
        base: Some((&["id", "code", "a"], "key_exchanged", "true")),
        head: (&["id", "code", "a"], "key_exchanged", "true"),
        warnings: &["key changed", "replica identity changed"],
        ..CASE
    },
    Case {
        before: "create table identity_changed (id int primary key, a int); \
                 insert into identity_changed select i, i from generate_series(1, 50) i",
        during: "alter table identity_changed replica identity full; \
                 update identity_changed set a = -a where id < 5; \
                 delete from identity_changed where id = 50",
        table: "identity_changed",
        base: Some(whole("identity_changed")),
        head: whole("identity_changed"),
        strategy: "row-versions",
        warnings: &["replica identity changed"],
        ..CASE
    },
    Case {
        before: "create unlogged table set_logged (id int primary key, a int); \
                 insert into set_logged select i, i from generate_series(1, 50) i",
        during: "alter table set_logged set logged",
        table: "set_logged",
        base: Some(whole("set_logged")),
        head: whole("set_logged"),
        warnings: &["was unlogged"],
        ..CASE
    },
    Case {
        before: "create table root (id int primary key, a int) partition by range (id); \
                 create table root_1 partition of root for values from (0) to (100); \
                 create table root_2 partition of root for values from (100) to (200); \
                 create table root_3 partition of root for values from (200) to (300); \
                 create table alone (a int, id int primary key); \
                 insert into root select i, i from generate_series(50, 250) i; \
                 insert into alone select i, i from generate_series(300, 350) i",
        during: "update root set a = -a where id between 90 and 110; drop table root_3; \
                 alter table root detach partition root_2; \
                 alter table root attach partition alone for values from (300) to (400); \
                 create table root_5 partition of root for values from (400) to (500); \
                 insert into root values (400, 1)",
        table: "root",
        base: Some(whole("root")),
        head: whole("root"),
        strategy: "content",
        warnings: &["partition attached", "partition detached", "partition dropped"],
        ..CASE
    },
    Case {
        before: "create table unlogged_root (id int primary key, a int) partition by range (id); \
                 create table unlogged_1 partition of unlogged_root for values from (0) to (100); \
                 create table unlogged_2 partition of unlogged_root for values from (100) to (200); \
                 insert into unlogged_root select i, i from generate_series(50, 150) i",
        during: "alter table unlogged_2 set unlogged; \
                 update unlogged_root set a = -a where id in (60, 120)",
        table: "unlogged_root",
        base: Some(whole("unlogged_1")),
        head: whole("unlogged_1"),
        warnings: &["partition unlogged"],
        ..CASE
    },
    Case {
        before: "create table logged_root (id int primary key, a int) partition by range (id); \
                 create table logged_1 partition of logged_root for values from (0) to (100); \
                 create unlogged table logged_2 partition of logged_root \
                   for values from (100) to (200); \
                 insert into logged_root select i, i from generate_series(50, 150) i",
        during: "alter table logged_2 set logged; \
                 update logged_root set a = -a where id in (60, 120)",
        table: "logged_root",
        base: Some(whole("logged_root")),
        head: whole("logged_root"),
        warnings: &["was unlogged"],
        ..CASE
    },
    // The index of the replica identity has rows with nulls, which pair with none.
    Case {
        since: 18,
        before: "create table nulls_in_key (id int, a int); \
                 insert into nulls_in_key select nullif(i, 7), i from generate_series(1, 50) i; \
                 insert into nulls_in_key values (null, 60), (null, 61); \
                 alter table nulls_in_key add constraint id_given not null id not valid; \
                 create unique index nulls_in_key_id on nulls_in_key (id); \
                 alter table nulls_in_key replica identity using index nulls_in_key_id",
        during: "update nulls_in_key set a = -a where id = 5; \
                 delete from nulls_in_key where a = 60",
        table: "nulls_in_key",
        key: &[],
        base: Some(whole("nulls_in_key")),
        head: whole("nulls_in_key"),
        warnings: &["no key"],
        ..CASE
    },
    // What was detached is a table of its own now.
    Case {
        table: "root_2",
        base: Some(whole("root_2")),
        head: whole("root_2"),
        strategy: "row-versions",
        warnings: &["published by partition"],
        ..CASE
    },
    // Partitions come as months do: that is no drift.
    Case {
        before: "create table grown (id int primary key, a int) partition by range (id); \
                 create table grown_1 partition of grown for values from (0) to (100); \
                 insert into grown select i, i from generate_series(1, 50) i",
        during: "create table grown_2 partition of grown for values from (100) to (200); \
                 insert into grown values (100, 1)",
        table: "grown",
        base: Some(whole("grown")),
        head: whole("grown"),
        ..CASE
    },
];
