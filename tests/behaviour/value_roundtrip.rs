//! Every type's interesting values, from real servers through both formats. `landing`: cast back,
//! each prints as it did. `debezium`: each is what the connector itself wrote, as it was recorded.

mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use deltacompare_testbed::{Postgres, Server};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{
    Database, Events, Gap, Run, State, TableName, assert_recovered, deltacompare, literal,
};

/// A line of the recordings: the text of a value, and what the connector wrote under six settings.
#[derive(Deserialize)]
struct Recording {
    declared: String,
    name: String,
    image: Option<String>,
    written: BTreeMap<String, Option<String>>,
}

/// The settings of each recording; `src/event/debezium/recorded.rs` has the table.
const MODES: [(&str, &[&str]); 6] = [
    ("default", &[]),
    (
        "double",
        &[
            "--debezium=decimal.handling.mode=double",
            "--debezium=time.precision.mode=adaptive_time_microseconds",
            "--debezium=binary.handling.mode=base64",
            "--debezium=interval.handling.mode=string",
            "--debezium=hstore.handling.mode=map",
        ],
    ),
    (
        "string",
        &[
            "--debezium=decimal.handling.mode=string",
            "--debezium=time.precision.mode=connect",
            "--debezium=binary.handling.mode=hex",
        ],
    ),
    (
        "isostring",
        &[
            "--debezium=time.precision.mode=isostring",
            "--debezium=binary.handling.mode=base64-url-safe",
        ],
    ),
    ("micros", &["--debezium=time.precision.mode=microseconds"]),
    ("nanos", &["--debezium=time.precision.mode=nanoseconds"]),
];

/// Values for which docs/events.md ("Deviations from the connector") promises something else.
const DEVIATE: [(&str, &str); 7] = [
    ("_date", "{1970-01-02,NULL,\"0044-03-15 BC\"}"),
    ("_date", "{infinity}"),
    ("_time", "{24:00:00}"),
    ("_numeric", "{1,1.10,NULL,NaN}"),
    ("_timetz", "{12:34:56.7+02,NULL}"),
    ("_timestamp", "{\"0044-03-15 12:00:00.5 BC\"}"),
    ("_timestamptz", "{\"0044-03-15 12:00:00.5+00 BC\"}"),
];

const EXTENSIONS: [&str; 6] = ["hstore", "citext", "ltree", "isn", "postgis", "vector"];

/// The values of one declared type.
struct Values {
    declared: String,
    table: String,
    /// SQL expressions, the recorded ones first.
    expressions: Vec<String>,
    recordings: Vec<Recording>,
}

fn recordings() -> Vec<Recording> {
    include_str!("../../src/event/debezium/recorded.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Recording>(line).unwrap())
        // What rounding makes of the last instant: PostgreSQL prints it and does not read it again.
        .filter(|recording| {
            !recording.image.as_deref().is_some_and(|image| image.starts_with("294277-01-01"))
        })
        .collect()
}

/// Everything that this server has a type for; says what it has not.
async fn all_values(production: &Server) -> Vec<Values> {
    let mut all = BTreeMap::<String, (Vec<Recording>, Vec<&str>)>::new();
    for recording in recordings() {
        all.entry(recording.declared.clone()).or_default().0.push(recording);
    }
    // PostgreSQL 14 reads no interval of more than 2^31 hours.
    let since_15 = |sql: &&str| sql.contains("2562047788:00:54");
    let old = Postgres::find(None).unwrap().major() < 15;
    for (declared, expressions) in values::VALUES {
        let known = expressions.iter().filter(|sql| !(old && since_15(sql)));
        all.entry((*declared).to_owned()).or_default().1.extend(known);
    }
    let mut values = Vec::new();
    for (number, (declared, (recordings, more))) in all.into_iter().enumerate() {
        let table = format!("v{number}");
        let create = format!("create table {table} (id int primary key, v {declared})");
        if let Err(error) = production.sql(create).await {
            let known =
                ["vector", "halfvec", "sparsevec", "geometry", "geography", "box2d", "box3d"]
                    .iter()
                    .any(|name| declared.starts_with(name))
                    || (declared.starts_with("numeric(") && format!("{error:#}").contains("scale"));
            assert!(known, "{declared}: {error:#}");
            println!("NOT TESTED, this server has no {declared}");
            continue;
        }
        let recorded = recordings
            .iter()
            .map(|recording| recording.image.as_deref().map_or("null".to_owned(), literal));
        let expressions = recorded.chain(more.iter().map(|&sql| sql.to_owned())).collect();
        values.push(Values { declared, table, expressions, recordings });
    }
    values
}

/// Row `i` comes, row `1000 + i` changes, each to the i-th value.
async fn gap_with_all_values() -> (Gap, Vec<Values>) {
    let postgres = Postgres::find(None).unwrap();
    let production = Database::new().await;
    for extension in EXTENSIONS {
        if postgres.has_extension(extension) {
            production.sql(format!("create extension {extension}")).await.unwrap();
        } else {
            println!("NOT TESTED, PostgreSQL {} has no extension {extension}", postgres.major());
        }
    }
    production.sql(values::TYPES).await.unwrap();
    let all = all_values(&production).await;
    let mut before = "create publication p for all tables;".to_owned();
    for Values { table, expressions, .. } in &all {
        let last = 1000 + expressions.len() - 1;
        before +=
            &format!("insert into {table} select i, null from generate_series(1000, {last}) i;");
    }
    before += &columns_of_all(&all, "dropped");
    production.sql(before).await.unwrap();
    let gap = Gap::over(production, async |production| {
        // A table that only head has, with a key and without one; and one that only base has.
        let mut created = columns_of_all(&all, "newcomer");
        created += "create table keyless_newcomer as select * from newcomer; drop table dropped;";
        production.sql(created).await.unwrap();
        for Values { table, expressions, declared, .. } in &all {
            let mut sql = String::new();
            for (at, expression) in expressions.iter().enumerate() {
                sql += &format!("insert into {table} select {at}, {expression};");
            }
            sql += &format!(
                "update {table} t set v = n.v from {table} n where t.id = 1000 + n.id and num_nulls(n.v) = 0"
            );
            production.sql(sql).await.unwrap_or_else(|error| panic!("{declared}: {error:#}"));
        }
    })
    .await;
    (gap, all)
}

/// Makes a table with a column of each type, and a row for each value of the type with the most of
/// them: null where a type has fewer.
fn columns_of_all(all: &[Values], table: &str) -> String {
    let columns: Vec<String> =
        all.iter().map(|values| format!("{} {}", values.table, values.declared)).collect();
    let mut sql = format!("create table {table} (id int primary key, {});", columns.join(", "));
    for id in 0..all.iter().map(|values| values.expressions.len()).max().unwrap() {
        let (names, values): (Vec<&str>, Vec<&str>) = all
            .iter()
            .filter_map(|values| {
                Some((values.table.as_str(), values.expressions.get(id)?.as_str()))
            })
            .unzip();
        sql += &format!(
            "insert into {table} (id, {}) values ({id}, {});",
            names.join(", "),
            values.join(", ")
        );
    }
    sql
}

async fn recover(gap: &Gap, format: &str, options: &[&str]) -> Run {
    let mut arguments = vec!["run", "--sink", "ndjson:{dir}/events", "--format", format];
    arguments.extend(options);
    let run = deltacompare(gap, &arguments).run().await;
    run.assert_completed();
    run
}

async fn every_value_comes_back_from_landing() {
    let (gap, all) = gap_with_all_values().await;
    for strategy in ["auto", "full"] {
        let run = recover(&gap, "landing", &["--strategy", strategy]).await;
        assert!(run.stderr.contains("table dropped"), "{}", run.stderr);
        let events = run.events("events");
        let mut values = 0;
        for Values { table, expressions, .. } in &all {
            assert_recovered(&gap, &TableName::of(table), &events).await;
            values += expressions.len();
            assert!(events.of(table).len() > expressions.len() || expressions == &["null"]);
        }
        assert!(values > 800, "{values}");
        assert_newcomers(&gap, &events).await;
        println!("{strategy}: {values} values of {} types", all.len());
    }
    let newcomers = ["--table", "public.newcomer", "--table", "public.keyless_newcomer"];
    let content = [&["--strategy", "content"][..], &newcomers].concat();
    let run = recover(&gap, "landing", &content).await;
    assert_newcomers(&gap, &run.events("events")).await;
}

/// All rows of the tables that came in the gap were sent.
async fn assert_newcomers(gap: &Gap, events: &Events) {
    for table in ["newcomer", "keyless_newcomer"] {
        assert_recovered(gap, &TableName::of(table), events).await;
        assert!(events.of(table).len() > 20, "{table}");
    }
}

/// As a consumer reads it: hstore's fields in any order, float4 as such (Java before 19 did not
/// print the shortest digits).
fn read(value: &Value, name: &str) -> Value {
    match (value, name) {
        (Value::String(inside), "hstore") => serde_json::from_str(inside).unwrap(),
        (Value::Number(number), "float4") => Value::from(number.as_f64().unwrap() as f32),
        _ => value.clone(),
    }
}

async fn every_value_is_written_as_the_connector_wrote_it() {
    let (gap, all) = gap_with_all_values().await;
    // The recorded text is what this server prints too.
    for Values { table, recordings, declared, .. } in &all {
        let state = State::of(&gap.head, &TableName::of(table)).await;
        let printed: Vec<Option<String>> = (0..recordings.len())
            .map(|id| state.get(&vec![Some(id.to_string())]).unwrap()["v"].clone())
            .collect();
        let recorded: Vec<Option<String>> =
            recordings.iter().map(|recording| recording.image.clone()).collect();
        assert_eq!(printed, recorded, "{declared}");
    }
    for (mode, options) in MODES {
        let run = recover(&gap, "debezium", options).await;
        let text = std::fs::read_to_string(run.file("events")).unwrap();
        let mut after = BTreeMap::<(String, i64), Option<Value>>::new();
        for line in text.lines() {
            let mut event: Value = serde_json::from_str(line).unwrap();
            let table = event["source"]["table"].as_str().unwrap().to_owned();
            let id = event["after"]["id"].as_i64().unwrap();
            let value = event["after"].as_object_mut().unwrap().remove("v");
            assert!(after.insert((table, id), value).is_none(), "{line}");
        }
        let (mut compared, mut wrong, mut left_out) = (0, Vec::new(), BTreeSet::new());
        for Values { table, recordings, declared, .. } in &all {
            for (recording, at) in recordings.iter().zip(0..) {
                let image = recording.image.as_deref().unwrap_or_default();
                if DEVIATE.contains(&(&recording.name, image)) {
                    continue;
                }
                let theirs = recording.written.get("all").or_else(|| recording.written.get(mode));
                let theirs = theirs.unwrap().as_deref();
                for id in [at, 1000 + at] {
                    let Some(ours) = after.get(&(table.clone(), id)) else {
                        // A null that stayed a null, or a column that is not sent at all.
                        assert!(recording.image.is_none() && id >= 1000, "{declared} {image}");
                        continue;
                    };
                    compared += 1;
                    let same = match (ours, theirs) {
                        (Some(ours), Some("java")) => {
                            ours.as_array().is_some_and(|all| all.iter().all(Value::is_null))
                        }
                        (Some(ours), Some(theirs)) => {
                            let theirs: Value = serde_json::from_str(theirs).unwrap();
                            read(ours, &recording.name) == read(&theirs, &recording.name)
                        }
                        (None, None) => {
                            left_out.insert(declared);
                            true
                        }
                        _ => false,
                    };
                    if !same {
                        wrong.push(format!("{mode} {declared} {image:?}: {ours:?} for {theirs:?}"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
        assert!(compared > 1200 && left_out.len() > 20, "{compared}");
        println!("{mode}: {compared} values, {} types left out", left_out.len());
    }
}

/// 50 MB in one value: it is read, encoded and written in bounded memory. In the square of its length
/// it would not be done when the test's time is over.
async fn a_value_of_fifty_megabytes() {
    let gap = Gap::between(
        "create table blob (id int primary key, data bytea);
         alter table blob alter data set storage external;
         create publication p for all tables;
         insert into blob select 1, decode(repeat(md5('a'), 3276800), 'hex')",
        "update blob set data = set_byte(data, 52428799, 1);
         insert into blob select 2, decode(repeat(md5('b'), 3276800), 'hex')",
    )
    .await;
    for format in ["landing", "debezium"] {
        let arguments =
            ["run", "--sink", "ndjson:{dir}/events", "--format", format, "--parallel", "1"];
        let mut program = deltacompare(&gap, &arguments);
        let started = Instant::now();
        let mut child = program.spawn();
        let status = format!("/proc/{}/status", child.id().unwrap());
        let mut peak_kb = 0;
        let exit = loop {
            if let Some(exit) = child.try_wait().unwrap() {
                break exit;
            }
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let high_water = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            if let Some(kb) = high_water.and_then(|line| line.split_whitespace().next()) {
                peak_kb = kb.parse::<u64>().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let took = started.elapsed();
        assert!(exit.success());
        println!("{format}: {took:.1?}, {} MB at most", peak_kb / 1024);
        let text = std::fs::read_to_string(program.folder().join("events")).unwrap();
        assert_eq!(text.lines().count(), 2);
        if format == "landing" {
            let events = crate::support::Events::parse(text.lines());
            assert_recovered(&gap, &TableName::of("blob"), &events).await;
        } else {
            let bytes = |line: &str| line.len() > 52_428_800 / 3 * 4;
            assert!(text.lines().all(bytes));
        }
        assert!(peak_kb > 0 && peak_kb < 1_200_000, "{peak_kb} kB");
    }
}

async fn large_objects_are_said_not_to_be_covered() {
    let table = "create table t (id int primary key, o oid); create publication p for all tables;";
    let large = "insert into t select 1, lo_from_bytea(0, 'x')";
    let (none, some) = tokio::join!(
        Gap::between(table, "insert into t values (1, 0)"),
        Gap::between(table, large)
    );
    let plan = deltacompare(&none, &["plan"]).run().await;
    plan.assert_completed();
    assert!(!plan.stdout.contains("large objects"), "{}", plan.stdout);
    let run = deltacompare(&some, &["run", "--sink", "delta-table", "--report", "{dir}/report"])
        .run()
        .await;
    run.assert_completed();
    assert!(run.report("report")["warnings"].to_string().contains("large objects"));
    assert_eq!(run.counts("report", "public.t"), (1, 0, 0));
}

tests! {
    every_value_comes_back_from_landing: majors seconds(600),
    every_value_is_written_as_the_connector_wrote_it: seconds(600),
    a_value_of_fifty_megabytes: seconds(600),
    large_objects_are_said_not_to_be_covered: seconds(600),
}
