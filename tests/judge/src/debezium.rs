//! Events in the `debezium` format, read back into PostgreSQL's own text as a consumer without
//! schemas does who knows the source's tables. Written from Debezium's documentation of its
//! PostgreSQL connector's data types, without a look at the product's encoder.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use deltacompare_testbed::Server;
use num_bigint::BigInt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::image::{Printer, Row};
use crate::state::{NetChange, State};
use crate::table::{TableName, literal};

type Values = BTreeMap<String, Box<RawValue>>;

#[derive(Debug, Deserialize)]
struct Event {
    op: String,
    before: Option<Values>,
    after: Option<Values>,
    source: Source,
}

#[derive(Debug, Deserialize)]
struct Source {
    connector: String,
    snapshot: String,
    schema: String,
    table: String,
    event_id: String,
}

/// What a sink got, in order.
#[derive(Debug)]
pub struct DebeziumEvents(Vec<(Event, String)>);

/// What an event says, in images: operation, old row, new row.
type Told = (String, Option<Row>, Option<Row>);

impl DebeziumEvents {
    pub fn read(path: &Path) -> Self {
        Self::parse(std::fs::read_to_string(path).unwrap().lines())
    }

    /// What the delta table on head has.
    pub async fn delta(head: &Server) -> Self {
        let lines: Vec<(String,)> = head
            .rows("select pg_catalog.format('%s', event) from deltacompare.delta order by ctid")
            .await
            .unwrap();
        Self::parse(lines.iter().map(|(line,)| line.as_str()))
    }

    fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let parse = |line: &str| {
            let event: Event =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(event.source.connector, "postgresql");
            assert_eq!(event.source.snapshot, "false");
            (event, line.to_owned())
        };
        Self(lines.into_iter().map(parse).collect())
    }

    /// The line of each id. Fails if an id comes twice.
    pub fn lines(&self) -> BTreeMap<&str, &str> {
        let lines: BTreeMap<_, _> =
            self.0.iter().map(|(e, line)| (e.source.event_id.as_str(), line.as_str())).collect();
        assert_eq!(lines.len(), self.0.len(), "an event was written twice");
        lines
    }

    /// The events of a table are exactly what differs between base and head, as far as Debezium's
    /// encoding of its types goes.
    pub async fn assert_recovered(&self, base: &Server, head: &Server, table: &TableName) {
        let columns = columns(head, table).await;
        let identity: String = head
            .value(format!(
                "select relreplident::text from pg_class where oid = {}::regclass",
                literal(&table.to_string())
            ))
            .await
            .unwrap();
        let printer = Printer::of(head).await;
        let base = State::of(base, table).await;
        let head = State::read(&printer, table).await;
        let key = head.key().to_vec();
        let key_only = !key.is_empty() && matches!(identity.as_str(), "d" | "i");

        let mut told = self.told(&printer, table, &columns, key_only.then_some(&key)).await;
        told.sort();

        let project = |row: &Row| -> Row {
            columns
                .iter()
                .filter(|(_, column)| column.is_carried())
                .filter_map(|(name, column)| {
                    Some((name.clone(), row.get(name)?.as_deref().and_then(|v| column.carried(v))))
                })
                .collect()
        };
        let mut expected: Vec<Told> = base
            .changes_to(&head)
            .into_iter()
            .map(|change| match change {
                NetChange::Insert(row) => ("c".to_owned(), None, Some(project(&row))),
                NetChange::Update { key, after } => {
                    let before = (identity == "f").then(|| project(base.get(&key).unwrap()));
                    ("u".to_owned(), before, Some(project(&after)))
                }
                NetChange::Delete(image) => {
                    let mut row = base.get(&image).unwrap().clone();
                    if key_only {
                        row.retain(|column, _| key.contains(column));
                    }
                    ("d".to_owned(), Some(project(&row)), None)
                }
            })
            .collect();
        expected.sort();
        for (told, expected) in told.iter().zip(&expected) {
            assert_eq!(told, expected, "{table}");
        }
        assert_eq!(told.len(), expected.len(), "{table}");
    }

    /// `key_only`: deletes tell only these columns of the old row, others have placeholders.
    async fn told(
        &self,
        head: &Printer,
        table: &TableName,
        columns: &BTreeMap<String, Column>,
        key_only: Option<&Vec<String>>,
    ) -> Vec<Told> {
        let events: Vec<&Event> = self
            .0
            .iter()
            .map(|(event, _)| event)
            .filter(|e| e.source.schema == table.schema && e.source.table == table.name)
            .collect();
        let images = |values: fn(&Event) -> Option<&Values>| {
            let given: Vec<bool> = events.iter().map(|event| values(event).is_some()).collect();
            let mut rows: Vec<Row> = events
                .iter()
                .filter_map(|event| Some((event, values(event)?)))
                .map(|(event, values)| {
                    let known = |name: &String| {
                        event.op != "d" || key_only.is_none_or(|key| key.contains(name))
                    };
                    for (name, column) in columns {
                        assert_eq!(values.contains_key(name), column.is_sent(), "{table} {name}");
                    }
                    values
                        .iter()
                        .filter(|(name, _)| columns[*name].is_carried() && known(name))
                        .map(|(name, value)| (name.clone(), columns[name].decode(value.get())))
                        .collect()
                })
                .collect();
            async move {
                head.cast(table, &mut rows).await;
                let mut rows = rows.into_iter();
                given.into_iter().map(|given| given.then(|| rows.next().unwrap())).collect()
            }
        };
        let before: Vec<Option<Row>> = images(|event| event.before.as_ref()).await;
        let after: Vec<Option<Row>> = images(|event| event.after.as_ref()).await;
        events
            .iter()
            .zip(before.into_iter().zip(after))
            .map(|(event, (before, after))| (event.op.clone(), before, after))
            .collect()
    }
}

/// A column's type as its values need it.
#[derive(Clone, Debug)]
struct Column {
    /// Of the type, its domains removed.
    name: String,
    kind: String,
    typmod: i32,
    /// Of the elements, if it is an array.
    element: Option<Box<Column>>,
}

async fn columns(server: &Server, table: &TableName) -> BTreeMap<String, Column> {
    type Found = (String, String, String, i32, Option<String>, Option<String>);
    let rows: Vec<Found> = server
        .rows(format!(
            "select a.attname::text, t.typname::text, t.typtype::text, \
                    case when d.typtype = 'd' then d.typtypmod else a.atttypmod end, \
                    e.typname::text, e.typtype::text \
               from pg_attribute a \
               join pg_type d on d.oid = a.atttypid \
               join pg_type t on t.oid = case when d.typtype = 'd' then d.typbasetype else d.oid end \
               left join pg_type e on t.typcategory = 'A' and e.oid = t.typelem \
              where a.attrelid = {}::regclass and a.attnum > 0 and not a.attisdropped",
            literal(&table.to_string())
        ))
        .await
        .unwrap();
    rows.into_iter()
        .map(|(column, name, kind, typmod, element, element_kind)| {
            let element = element
                .zip(element_kind)
                .map(|(name, kind)| Box::new(Column { name, kind, typmod, element: None }));
            (column, Column { name, kind, typmod, element })
        })
        .collect()
}

impl Column {
    /// The connector leaves composites out.
    fn is_sent(&self) -> bool {
        self.kind != "c"
    }

    /// Whether a value can be told from what is sent: an interval's number cannot.
    fn is_carried(&self) -> bool {
        self.is_sent() && self.name != "interval"
    }

    /// What arrives of a value that PostgreSQL prints so: its image, or less.
    fn carried(&self, image: &str) -> Option<String> {
        if let Some(element) = &self.element {
            let bounds_dropped = match image.strip_prefix('[') {
                Some(rest) => rest.split_once('=').unwrap().1,
                None => image,
            };
            let inside = &bounds_dropped[1..bounds_dropped.len() - 1];
            if inside.starts_with('{') {
                let nulls = vec!["NULL"; outer_elements(inside)];
                return Some(format!("{{{}}}", nulls.join(",")));
            }
            let refused = |value: &str| match element.kind.as_str() {
                "e" => value == "NULL",
                _ => element.name == "numeric" && value == "NaN",
            };
            return (!inside.split(',').any(refused)).then(|| bounds_dropped.to_owned());
        }
        match self.name.as_str() {
            "numeric" if matches!(image, "NaN" | "Infinity" | "-Infinity") => None,
            "numeric" if self.typmod < 0 && image.contains('.') => {
                Some(image.trim_end_matches('0').trim_end_matches('.').to_owned())
            }
            _ => Some(image.to_owned()),
        }
    }

    /// What a value is in PostgreSQL's text.
    fn decode(&self, json: &str) -> Option<String> {
        if json == "null" {
            return None;
        }
        if let Some(element) = &self.element {
            let elements: Vec<Box<RawValue>> = serde_json::from_str(json).unwrap();
            let elements: Vec<String> = elements
                .iter()
                .map(|value| match element.decode(value.get()) {
                    None => "NULL".to_owned(),
                    Some(text) => {
                        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                    }
                })
                .collect();
            return Some(format!("{{{}}}", elements.join(",")));
        }
        let number = || json.parse::<i64>().unwrap_or_else(|_| panic!("{self:?}: {json}"));
        let string =
            || serde_json::from_str::<String>(json).unwrap_or_else(|_| panic!("{self:?}: {json}"));
        // The type modifier of time and timestamp is their precision.
        let to_micros = if (0..=3).contains(&self.typmod) { 1000 } else { 1 };
        Some(match self.name.as_str() {
            "bool" => json.parse::<bool>().unwrap().to_string(),
            "int2" | "int4" | "int8" => number().to_string(),
            "float4" | "float8" if json.starts_with('"') => string(),
            "float4" | "float8" => {
                json.parse::<f64>().unwrap();
                json.to_owned()
            }
            "numeric" if self.typmod >= 4 => {
                let unscaled = BASE64_STANDARD.decode(string()).unwrap();
                decimal(&unscaled, ((self.typmod - 4) & 0xffff) as usize)
            }
            "numeric" => {
                #[derive(Deserialize)]
                struct VariableScaleDecimal {
                    scale: usize,
                    value: String,
                }
                let number: VariableScaleDecimal = serde_json::from_str(json).unwrap();
                decimal(&BASE64_STANDARD.decode(number.value).unwrap(), number.scale)
            }
            "bytea" => {
                let bytes = BASE64_STANDARD.decode(string()).unwrap();
                bytes.iter().fold("\\x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
            }
            "date" => match number() {
                // PostgreSQL's driver makes these of the infinities.
                -2_147_472_692 => "infinity".to_owned(),
                -2_147_472_691 => "-infinity".to_owned(),
                days => {
                    let (date, bc) = date(days);
                    date + bc
                }
            },
            "time" => time(number() * to_micros),
            "timestamp" => match number() {
                9_223_372_036_825_200_000 | 9_223_372_036_825_200 => "infinity".to_owned(),
                -9_223_372_036_832_400_000 | -9_223_372_036_832_400 => "-infinity".to_owned(),
                instant => {
                    let micros = instant * to_micros;
                    let (date, bc) = date(micros.div_euclid(DAY));
                    format!("{date} {}{bc}", time(micros.rem_euclid(DAY)))
                }
            },
            "timestamptz" => match string().as_str() {
                text @ ("infinity" | "-infinity") => text.to_owned(),
                iso => zoned(iso),
            },
            _ => string(),
        })
    }
}

/// How many arrays are in an array of arrays.
fn outer_elements(inside: &str) -> usize {
    let (mut depth, mut quoted, mut elements) = (0, false, 0);
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '"' => quoted = !quoted,
            '{' if !quoted => {
                elements += usize::from(depth == 0);
                depth += 1;
            }
            '}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    elements
}

const DAY: i64 = 86_400_000_000;

/// Big-endian two's complement, divided by 10^scale.
fn decimal(unscaled: &[u8], scale: usize) -> String {
    format!("{}e-{scale}", BigInt::from_signed_bytes_be(unscaled))
}

/// Days since 1970 as a date, and its era.
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn date(days: i64) -> (String, &'static str) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    match year {
        1.. => (format!("{year:04}-{month:02}-{day:02}"), ""),
        // Before 1 AD comes 1 BC, which astronomers call 0.
        _ => (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC"),
    }
}

fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{fraction:06}")
}

/// `2024-02-29T12:34:56.789Z`, its year perhaps with a sign.
fn zoned(iso: &str) -> String {
    let (date, time) = iso.split_once('T').unwrap();
    let time = time.strip_suffix('Z').unwrap();
    let (sign, unsigned) = match date.as_bytes()[0] {
        sign @ (b'-' | b'+') => (sign, &date[1..]),
        _ => (b'+', date),
    };
    let (year, day) = unsigned.split_once('-').unwrap();
    let year = year.parse::<i64>().unwrap() * if sign == b'-' { -1 } else { 1 };
    match year {
        1.. => format!("{year:04}-{day} {time}+00"),
        _ => format!("{:04}-{day} {time}+00 BC", 1 - year),
    }
}
