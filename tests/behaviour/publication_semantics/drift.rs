//! What changed besides rows: tables, columns, types, keys, partitions and the publications
//! themselves. Each is named in the report, and what both sides have is compared: by name where
//! both have the name, else by what became of it.

use std::collections::BTreeSet;

use deltacompare_testbed::{Options, Postgres, Production, Server};
use futures_util::future::join_all;

use super::run;
use crate::support::{Events, Gap, NetChange, State, TableName, postgres_of};

/// What of a table is compared on one side: columns, from where, and which rows.
type Side = (&'static [&'static str], &'static str, &'static str);

struct Case {
    since: u32,
    publication: &'static str,
    before: &'static str,
    during: &'static str,
    /// On head.
    table: &'static str,
    /// What pairs rows; empty for a multiset.
    key: &'static [&'static str],
    /// `None`: base has nothing of it.
    base: Option<Side>,
    head: Side,
    /// Under `auto`; empty if it does not matter.
    strategy: &'static str,
    warnings: &'static [&'static str],
}

/// All rows of two columns.
const fn whole(from: &'static str) -> Side {
    (&["id", "a"], from, "true")
}

/// Most cases are like this one.
const CASE: Case = Case {
    since: 14,
    publication: "shop",
    before: "",
    during: "",
    table: "",
    key: &["id"],
    base: None,
    head: whole(""),
    strategy: "",
    warnings: &[],
};

const CASES: &[Case] = &[
    Case {
        before: "create table steady (id int primary key, a int); \
                 insert into steady select i, i from generate_series(1, 50) i",
        during: "update steady set a = -a where id < 5",
        table: "steady",
        base: Some(whole("steady")),
        head: whole("steady"),
        strategy: "identity",
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
        strategy: "identity",
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
        strategy: "identity",
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
        strategy: "identity",
        warnings: &["table renamed"],
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
        strategy: "identity",
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
        strategy: "identity",
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
        strategy: "identity",
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
        strategy: "identity",
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
        strategy: "identity",
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
        strategy: "identity",
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
    // What was detached is a table of its own now.
    Case {
        table: "root_2",
        base: Some(whole("root_2")),
        head: whole("root_2"),
        strategy: "identity",
        warnings: &["published in the gap"],
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
        strategy: "identity",
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
        strategy: "identity",
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
        strategy: "identity",
        warnings: &["publish list", "publish list changed"],
        ..CASE
    },
];

const PRELUDE: &str = "
    create schema elsewhere;
    create publication shop for all tables with (publish_via_partition_root = true);
    create publication altered;
    create table member_removed (id int primary key);
    alter publication altered add table member_removed;
    insert into member_removed values (1);
    do $$ begin
      for i in 1..30 loop
        execute format('create table gone_%s (id int primary key)', i);
      end loop;
    end $$;
";

const GONE: &str = "
    alter publication altered drop table member_removed;
    delete from member_removed;
    do $$ begin
      for i in 1..30 loop
        execute format('drop table gone_%s', i);
      end loop;
    end $$;
";

impl Case {
    async fn state(&self, server: &Server, (columns, from, filter): Side) -> State {
        let from = TableName::of(from).to_string();
        State::covered(server, self.key, columns, &from, filter).await
    }

    /// What must be sent, sorted.
    async fn expected(&self, gap: &Gap) -> Vec<NetChange> {
        let base = match self.base {
            Some(side) => self.state(&gap.base, side).await,
            None => State::keyed(self.key.iter().map(|&name| name.to_owned()).collect()),
        };
        base.changes_to(&self.state(&gap.head, self.head).await)
    }

    /// What was sent, sorted. The values of these tables are numbers and texts.
    fn sent(&self, events: &Events) -> Vec<NetChange> {
        let key = State::keyed(self.key.iter().map(|&name| name.to_owned()).collect());
        let of = events.of_table(&TableName::of(self.table));
        let mut changes: Vec<NetChange> = of
            .iter()
            .map(|event| match event.op.as_str() {
                "I" => NetChange::Insert(event.after_row().unwrap()),
                "U" => {
                    let after = event.after_row().unwrap();
                    NetChange::Update { key: key.key_of(&after), after }
                }
                _ => NetChange::Delete(key.key_of(&event.before_row().unwrap())),
            })
            .collect();
        changes.sort();
        changes
    }
}

async fn check(gap: &Gap, publication: &str, strategy: &str, major: u32) {
    let run = run(gap, &[publication], &["--strategy", strategy]).await;
    let events = run.events("events");
    let cases = CASES.iter().filter(|case| case.since <= major && case.publication == publication);
    for case in cases {
        let what = format!("{publication}, {strategy}: {}", case.table);
        let table = TableName::of(case.table);
        let report = run.table("report", &format!("{}.{}", table.schema, table.name));
        assert_eq!(case.sent(&events), case.expected(gap).await, "{what}: {report:#}");
        let warnings = report["warnings"].as_array().unwrap();
        let mut named: Vec<&str> = warnings
            .iter()
            .map(|warning| warning.as_str().unwrap().split_once(": ").unwrap().0)
            .collect();
        let mut expected = case.warnings.to_vec();
        named.sort_unstable();
        expected.sort_unstable();
        assert_eq!(named, expected, "{what}: {report:#}");
        if strategy == "auto" && !case.strategy.is_empty() {
            assert_eq!(report["strategy"], case.strategy, "{what}: {report:#}");
        }
    }
    let report = run.report("report");
    let warnings: BTreeSet<&str> =
        report["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let told = |name: &str| {
        let told: Vec<&&str> = warnings.iter().filter(|w| w.starts_with(name)).collect();
        assert_eq!(told.len(), 1, "{publication}: {name}: {warnings:?}");
        told[0].to_string()
    };
    match publication {
        "shop" => {
            // Thirty tables and a partition, one sentence.
            let dropped = told("table dropped: ");
            assert!(dropped.contains("30 tables"), "{dropped}");
            assert!(dropped.ends_with("and 20 more"), "{dropped}");
            let attached = told("no longer published: ");
            assert!(
                attached.contains("1 table") && attached.contains("public.alone"),
                "{attached}"
            );
        }
        "altered" => {
            let removed = told("no longer published: ");
            assert!(removed.contains("public.member_removed"), "{removed}");
            assert!(events.of("member_removed").is_empty());
        }
        _ => {}
    }
}

async fn on(postgres: &Postgres) {
    let major = postgres.major();
    let production = Production::start(postgres, Options::default()).await.unwrap();
    production.sql(PRELUDE).await.unwrap();
    let cases = || CASES.iter().filter(|case| case.since <= major);
    for case in cases() {
        production.sql(case.before).await.unwrap();
    }
    let gap = Gap::over(production, async |production| {
        for case in cases() {
            // A label is of use only once its transaction has ended.
            for statement in case.during.split(';').filter(|statement| !statement.trim().is_empty())
            {
                production.sql(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:#}"));
            }
        }
        production.sql(GONE).await.unwrap();
    })
    .await;
    let runs = ["shop", "altered"].into_iter().flat_map(|publication| {
        ["auto", "content", "full"].map(|strategy| (publication, strategy))
    });
    let runs = runs.chain([("operations", "auto")]);
    join_all(runs.map(|(publication, strategy)| check(&gap, publication, strategy, major))).await;
}

on_every_major! {
    on
    drift_is_named_and_bridged_on_14 14
    drift_is_named_and_bridged_on_15 15
    drift_is_named_and_bridged_on_16 16
    drift_is_named_and_bridged_on_17 17
    drift_is_named_and_bridged_on_18 18
}
