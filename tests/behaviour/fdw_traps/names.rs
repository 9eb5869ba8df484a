//! Keywords as names, and names with line breaks in them.

use deltacompare_testbed::Postgres;
use futures_util::future::join_all;

use super::{LANDING, run};
use crate::support::{Gap, TableName, assert_recovered, deltacompare};

/// A type and a column for each keyword of the server; and for those that mean the most to a parser a
/// schema, a table in it, its key, and a type.
const KEYWORDS: &str = "
    create schema kw;
    do $$
    declare
      word text;
      columns text := '';
    begin
      for word in select k.word from pg_get_keywords() k loop
        execute format('create type kw.%I as enum (''a'', ''b'')', word);
        columns := columns || format(', %I kw.%1$I default ''a''', word);
      end loop;
      execute 'create table kw.words (id int primary key' || columns || ')';
      insert into kw.words (id) select generate_series(1, 20);
      create publication words for table kw.words;
      foreach word in array array['select', 'user', 'table', 'values', 'only', 'lateral', 'array',
                                  'null', 'default', 'operator', 'current_user', 'collate'] loop
        execute format('create schema %I', word);
        execute format('create table %I.%1$I (%1$I kw.%1$I, n int, v text, primary key (n, %1$I))',
                       word);
        execute format('alter publication words add table %I.%1$I', word);
        execute format('insert into %I.%1$I select ''a'', i, ''v'' from generate_series(1, 20) i',
                       word);
      end loop;
    end $$;
";

const CHANGED_KEYWORDS: &str = "
    update kw.words set \"select\" = 'b', \"user\" = 'b' where id <= 3;
    delete from kw.words where id = 20;
    do $$
    declare
      word text;
    begin
      foreach word in array array['select', 'user', 'table', 'values', 'only', 'lateral', 'array',
                                  'null', 'default', 'operator', 'current_user', 'collate'] loop
        execute format('update %I.%1$I set v = ''w'' where n <= 2', word);
        execute format('delete from %I.%1$I where n = 20', word);
        execute format('insert into %I.%1$I values (''b'', 21, null)', word);
      end loop;
    end $$;
";

/// Base's EXPLAIN, which postgres_fdw reads, prints the names of what holds the rows.
const BREAKS: &str = "
    create type \"ty\npe\" as enum ('l\n1', 'l\r2');
    create table \"line\nbreak\" (\"i\nd\" int primary key, \"v\r\" \"ty\npe\");
    create table \"filt\ner\" (\"i\nd\" int primary key, v text);
    create table root (id int primary key, v text) partition by range (id);
    create table \"le\naf\" partition of root for values from (0) to (100);
    create table \"par\nent\" (id int primary key, v text);
    create table \"ch\nild\" () inherits (\"par\nent\");
    insert into \"line\nbreak\" select i, 'l\n1' from generate_series(1, 20) i;
    insert into \"filt\ner\" select i, 'v' from generate_series(1, 20) i;
    insert into root select i, 'v' from generate_series(1, 20) i;
    insert into \"par\nent\" select i, 'v' from generate_series(1, 20) i;
    alter table \"filt\ner\" replica identity full;
";

const CHANGED_BREAKS: &str = "
    update \"line\nbreak\" set \"v\r\" = 'l\r2' where \"i\nd\" <= 2;
    update \"filt\ner\" set v = 'w' where \"i\nd\" in (1, 11, 12);
    update root set v = 'w' where id <= 2;
    update only \"par\nent\" set v = 'w' where id <= 2;
";

async fn keywords_and_line_breaks_are_names() {
    let major = Postgres::find(None).unwrap().major();
    let filter = if major >= 15 { "where (\"i\nd\" > 10)" } else { "" };
    let publications = format!(
        "create publication breaks for table \"line\nbreak\", root, only \"par\nent\"
           with (publish_via_partition_root);
         create publication filtered for table \"filt\ner\" {filter};"
    );
    let gap = Gap::between(
        &format!("{KEYWORDS}{BREAKS}{publications}"),
        &format!("{CHANGED_KEYWORDS}{CHANGED_BREAKS}"),
    )
    .await;
    let strategies = [
        &["--strategy", "full", "--sink", "delta-table"][..],
        &["--strategy", "content", "--verify", "full"],
        &["--verify", "full"],
    ];
    let debezium = LANDING.map(|word| if word == "landing" { "debezium" } else { word });
    let (runs, debezium) = tokio::join!(
        join_all(strategies.map(|strategy| run(&gap, strategy))),
        deltacompare(&gap, &debezium).run()
    );
    debezium.assert_completed();
    let filtered = if major >= 15 { 2 } else { 3 };
    for run in runs.into_iter().chain([debezium]) {
        for (table, counts) in [
            ("public.line\nbreak", (0, 2, 0)),
            ("public.filt\ner", (0, filtered, 0)),
            ("public.root", (0, 2, 0)),
            ("public.par\nent", (0, 2, 0)),
            ("kw.words", (0, 3, 1)),
            ("current_user.current_user", (1, 2, 1)),
        ] {
            assert_eq!(run.counts("report", table), counts, "{table}");
        }
        let text = std::fs::read_to_string(run.file("events")).unwrap();
        if text.starts_with("{\"op\"") {
            let events = run.events("events");
            for (schema, name) in [("kw", "words"), ("select", "select"), ("only", "only")] {
                assert_recovered(&gap, &TableName::new(schema, name), &events).await;
            }
        }
    }
}

tests! {
    keywords_and_line_breaks_are_names: majors,
}
