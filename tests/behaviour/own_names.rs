//! Tables, columns, schemas, types and functions with the names that our own SQL uses: none of them
//! is ever taken for ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use deltacompare_testbed::Server;

use crate::support::{Gap, TableName, assert_recovered, deltacompare, quoted};

/// The words of our SQL, out of the sources.
struct Words {
    /// Those that qualify a column.
    qualifiers: BTreeSet<String>,
    /// Aliases of relations and columns; and columns that are qualified.
    aliases: BTreeSet<String>,
    columns: BTreeSet<String>,
    all: BTreeSet<String>,
}

impl Words {
    fn collect() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = vec![source.join("fdw/tables.rs")];
        rust_files(&source.join("diff"), &mut files);
        let mut words = Self {
            qualifiers: BTreeSet::new(),
            aliases: BTreeSet::new(),
            columns: BTreeSet::new(),
            all: BTreeSet::new(),
        };
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            literals(text).iter().for_each(|literal| words.add(literal));
        }
        // A user's column cannot have the name of a system column.
        for system in ["ctid", "xmin", "tableoid"] {
            words.columns.remove(system);
            assert!(words.all.remove(system), "{system} is nowhere in our SQL");
        }
        for known in ["r", "g", "b", "s", "w"] {
            assert!(words.qualifiers.contains(known), "{known} qualifies nothing in our SQL");
        }
        for known in ["low", "high", "image", "number"] {
            assert!(words.columns.contains(known), "{known} is no column in our SQL");
        }
        for known in ["format", "textin"] {
            assert!(words.all.contains(known), "{known} is nowhere in our SQL");
        }
        words
    }

    fn add(&mut self, literal: &str) {
        const KEYWORDS: [&str; 8] =
            ["select", "from", "join", "as", "where", "array", "operator", "end"];
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let mut found = Vec::new();
        let mut rest = literal;
        while let Some(start) = rest.find(is_name) {
            let end = rest[start..].find(|c| !is_name(c)).map_or(rest.len(), |at| start + at);
            let name = &rest[start..end];
            found.push((name, rest[end..].starts_with('.')));
            rest = &rest[end..];
        }
        let is_sql = found.iter().any(|(name, _)| KEYWORDS.contains(name))
            || literal.contains("::")
            || literal.contains("({");
        if !is_sql {
            return;
        }
        let (mut after_as, mut qualified) = (false, false);
        for (name, qualifies) in found {
            if !name.starts_with(|c: char| c.is_ascii_digit()) {
                if qualifies {
                    self.qualifiers.insert(name.to_owned());
                }
                if after_as || qualifies {
                    self.aliases.insert(name.to_owned());
                }
                if after_as || qualified {
                    self.columns.insert(name.to_owned());
                }
                self.all.insert(name.to_owned());
            }
            after_as = name == "as";
            qualified = qualifies;
        }
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The string literals of a Rust source, without what stands in comments.
fn literals(source: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, tail) = rest.split_at(at);
        if tail.starts_with("//") {
            rest = tail.find('\n').map_or("", |end| &tail[end..]);
        } else if before.ends_with("r#") && tail.starts_with('"') {
            let end = tail.find("\"#").unwrap();
            literals.push(tail[1..end].to_owned());
            rest = &tail[end + 2..];
        } else if let Some(quoted) = tail.strip_prefix('"') {
            let mut escaped = false;
            let end = quoted
                .find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })
                .unwrap();
            literals.push(quoted[..end].to_owned());
            rest = &quoted[end + 1..];
        } else if let Some(after) = tail.strip_prefix("'\"'") {
            rest = after;
        } else {
            rest = &tail[1..];
        }
    }
    literals
}

/// How a table's rows are told apart, and so which of our statements read it.
const KINDS: [&str; 5] = ["int_key", "text_key", "no_key", "filtered", "parent"];

/// One table for each alias of ours, of each kind for each that qualifies something; with a column
/// for each that we qualify, and for each alias. One has a column for each word of ours.
struct Tables<'a> {
    words: &'a Words,
    filters: bool,
}

impl Tables<'_> {
    fn names(&self) -> impl Iterator<Item = TableName> {
        KINDS.iter().flat_map(|kind| {
            let names = match *kind {
                "int_key" => &self.words.aliases,
                _ => &self.words.qualifiers,
            };
            names.iter().map(|name| TableName::new(kind, name))
        })
    }

    fn columns(&self, table: &TableName) -> Vec<&String> {
        let of_all = table.schema == "int_key" && table.name == "g";
        let words = if of_all { &self.words.all } else { &self.words.columns };
        let columns: BTreeSet<&String> = words.iter().chain(&self.words.aliases).collect();
        columns.into_iter().filter(|column| **column != table.name).collect()
    }

    fn create(&self) -> String {
        let mut sql = KINDS.map(|kind| format!("create schema {kind};")).join("\n");
        // Schemas, types and functions of our words, too: where the role of the program looks first,
        // unless the program says where it looks.
        sql += "create schema words;";
        for word in &self.words.all {
            if !word.starts_with("pg_") {
                sql += &format!("create schema {};", quoted(word));
            }
            let word = quoted(word);
            sql += &format!(
                "create type words.{word} as enum ('x');
                 create function words.{word}(anyelement) returns text
                   language sql immutable as 'select ''another function''';
                 create function words.{word}(text) returns text
                   language sql immutable as 'select ''another function''';"
            );
        }
        sql += "do $$ begin
                  execute format('alter role azure_admin in database %I set search_path = words',
                                 current_database());
                  execute format('alter database %I set log_statement = ''all''',
                                 current_database());
                end $$;";
        sql += "create schema child;";
        for table in self.names() {
            let own = quoted(&table.name);
            let columns: Vec<String> = self
                .columns(&table)
                .into_iter()
                .map(|word| format!("{} int default 1000000", quoted(word)))
                .collect();
            let (own_type, key) = match table.schema.as_str() {
                "text_key" => ("text", format!("primary key ({own}, \"number of row\")")),
                "no_key" => ("int", "check (true)".to_owned()),
                _ => ("int", format!("primary key ({own})")),
            };
            sql += &format!(
                "create table {table} ({own} {own_type}, \"number of row\" int, {}, {key});
                 insert into {table} ({own}, \"number of row\") select i, i from generate_series(1, 40) i;",
                columns.join(", ")
            );
            match table.schema.as_str() {
                "no_key" => sql += &format!("alter table {table} replica identity full;"),
                "parent" => {
                    sql += &format!(
                        "create table child.{own} () inherits ({table});
                         insert into child.{own} ({own}) values (1), (7);"
                    );
                }
                _ => {}
            }
        }
        let published: Vec<String> = self
            .names()
            .map(|table| match table.schema.as_str() {
                "filtered" if self.filters => {
                    format!("{table} where ({} > 5)", quoted(&table.name))
                }
                _ => format!("only {table}"),
            })
            .collect();
        // PostgreSQL before 15 takes no parentheses, and nobody needs `only` for others.
        sql += &format!("create publication own for table {};", published.join(", "));
        sql
    }

    fn change(&self) -> String {
        self.names()
            .map(|table| {
                let own = quoted(&table.name);
                let value = self.columns(&table)[0];
                format!(
                    "update only {table} set {} = 7 where \"number of row\" between 3 and 12;
                     delete from only {table} where \"number of row\" = 20;
                     insert into {table} ({own}, \"number of row\") values (41, 41);",
                    quoted(value)
                )
            })
            .collect()
    }

    /// Inserts, updates and deletes of a table.
    fn expected(&self, table: &TableName) -> (u64, u64, u64) {
        match table.schema.as_str() {
            "no_key" => (1 + 10, 0, 1 + 10),
            // Of rows 3 to 12, the filter lets 6 and later through.
            "filtered" if self.filters => (1, 7, 1),
            _ => (1, 10, 1),
        }
    }
}

/// In every strategy; and, in the statements that the servers have logged, every relation of the
/// user's has our alias and every column is qualified.
async fn no_name_of_the_users_is_taken_for_one_of_ours() {
    let words = Words::collect();
    let major = deltacompare_testbed::Postgres::find(None).unwrap().major();
    let tables = Tables { words: &words, filters: major >= 15 };
    let gap = Gap::between(&tables.create(), &tables.change()).await;
    // `full` is what verifies the first.
    for (strategy, verify) in [("row-versions", "full"), ("content", "none")] {
        let run = deltacompare(
            &gap,
            &[
                "run",
                "--publication",
                "own",
                "--sink",
                "ndjson:{dir}/events",
                "--format",
                "landing",
                "--report",
                "{dir}/report",
                "--verify",
                verify,
                "--strategy",
                if strategy == "row-versions" { "auto" } else { strategy },
            ],
        )
        .run()
        .await;
        run.assert_completed();
        let events = run.events("events");
        for table in tables.names() {
            let name = format!("{}.{}", table.schema, table.name);
            assert_eq!(run.counts("report", &name), tables.expected(&table), "{name} {strategy}");
            assert_eq!(run.table("report", &name)["strategy"], strategy, "{name}");
        }
        for table in tables.names().filter(|table| table.schema != "filtered") {
            assert_recovered(&gap, &table, &events).await;
        }
    }
    let read = assert_statements_are_qualified(&gap.base, &tables)
        + assert_statements_are_qualified(&gap.head, &tables);
    assert!(read > 500, "{read} statements were looked at");
}

/// Yields how many statements named a relation of the user's.
fn assert_statements_are_qualified(server: &Server, tables: &Tables<'_>) -> usize {
    let relations: BTreeSet<String> = tables.names().map(|table| table.to_string()).collect();
    let log = server.log();
    let starts_an_entry = |line: &str| line.starts_with("20") && line.contains(" [");
    let mut entries: Vec<String> = Vec::new();
    for line in log.lines() {
        if starts_an_entry(line) || entries.is_empty() {
            entries.push(line.to_owned());
        } else {
            let last = entries.last_mut().unwrap();
            last.push('\n');
            last.push_str(line);
        }
    }
    let mut read = 0;
    for entry in entries {
        // Our own sessions: those of postgres_fdw log in as a role of their own.
        let Some((_, statement)) = entry
            .split_once("azure_admin@")
            .and_then(|(_, rest)| rest.split_once("LOG:  "))
            .filter(|(database, _)| database.trim() == server.database())
        else {
            continue;
        };
        let statement = statement.split_once(": ").map_or(statement, |(_, statement)| statement);
        let text = statement.trim_start();
        if !(text.starts_with("select") || text.starts_with("copy") || text.contains(" view ")) {
            continue;
        }
        let named: Vec<&String> =
            relations.iter().filter(|relation| text.contains(relation.as_str())).collect();
        if named.is_empty() {
            continue;
        }
        read += 1;
        let mut unnamed = text.to_owned();
        for relation in named {
            for (at, _) in text.match_indices(relation.as_str()) {
                let before = text[..at].trim_end();
                let after = &text[at + relation.len()..];
                assert!(
                    ["from", "only", "join"].iter().any(|word| before.ends_with(word)),
                    "{relation} in {text}"
                );
                assert!(after.starts_with(" as r"), "{relation} has no alias of ours in {text}");
            }
            unnamed = unnamed.replace(relation.as_str(), "");
        }
        for word in &tables.words.all {
            let column = quoted(word);
            for (at, _) in unnamed.match_indices(&column) {
                let before = &unnamed[..at];
                assert!(
                    before.ends_with("r.")
                        // A type, an operator's schema, a collation, the name of a column that is
                        // made of one, and row filters, which stand in a query of their own.
                        || before.ends_with("::")
                        || before.ends_with("::\"pg_catalog\".")
                        || before.ends_with(" as ")
                        || before.ends_with('('),
                    "{column} is not qualified in {text}"
                );
            }
        }
    }
    read
}

/// A schema is ours by its comment, not by its name.
async fn a_schema_of_the_users_may_have_a_name_like_ours() {
    let gap = Gap::between(
        "create schema deltacompare_abcdefabcdef;
         create table deltacompare_abcdefabcdef.orders (id int primary key, v text);
         insert into deltacompare_abcdefabcdef.orders select i, 'a' from generate_series(1, 99) i;
         create publication p for all tables",
        "update deltacompare_abcdefabcdef.orders set v = 'b' where id <= 9;
         delete from deltacompare_abcdefabcdef.orders where id = 50",
    )
    .await;
    let record = deltacompare(&gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    record.assert_completed();
    let run = deltacompare(
        &gap,
        &["run", "--sink", "ndjson:{dir}/events", "--format", "landing", "--verify", "full"],
    )
    .run()
    .await;
    run.assert_completed();
    let orders = TableName::of("deltacompare_abcdefabcdef.orders");
    assert_eq!(run.events("events").of_table(&orders).len(), 10);
    assert_recovered(&gap, &orders, &run.events("events")).await;
    let recorded = std::fs::read_to_string(record.file("recorded.json")).unwrap();
    assert!(recorded.contains("deltacompare_abcdefabcdef"), "{recorded}");
}

tests! {
    no_name_of_the_users_is_taken_for_one_of_ours: majors,
    a_schema_of_the_users_may_have_a_name_like_ours,
}
