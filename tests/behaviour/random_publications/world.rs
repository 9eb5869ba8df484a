//! What there is on production, as far as the next random statement must know it.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A generator that gives the same for the same seed.
pub(super) struct Dice(StdRng);

impl Dice {
    pub(super) fn of(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Plain,
    Partitioned(Vec<Leaf>),
    /// Of the table with this number.
    Child(usize),
}

/// A partition for three values of `k`, from this one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) from: usize,
    pub(super) is: Is,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Attached,
    Detached,
    Gone,
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) schema: &'static str,
    pub(super) name: String,
    /// Besides `id` and `k`, with their types; generated ones left out.
    pub(super) columns: Vec<(String, &'static str)>,
    /// Columns of the replica identity; empty for `full`.
    pub(super) identity: Vec<&'static str>,
    pub(super) shape: Shape,
    /// Whether anything but its rows changed in the gap: then the stream need not tell the state.
    pub(super) drifted: bool,
}

impl Table {
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) name: String,
    pub(super) drifted: bool,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) major: u32,
    pub(super) tables: Vec<Table>,
    pub(super) publications: Vec<Publication>,
    /// Whether one was dropped in the gap.
    pub(super) dropped: bool,
    /// Makes names unique.
    pub(super) names: usize,
    /// How many of a hundred transactions change a table or a publication.
    pub(super) drift: usize,
}

const SCHEMAS: [&str; 2] = ["public", "sold"];

impl World {
    pub(super) fn new(major: u32, drift: usize) -> Self {
        Self {
            major,
            tables: Vec::new(),
            publications: Vec::new(),
            dropped: false,
            names: 0,
            drift,
        }
    }

    pub(super) fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// Creates a table, with rows.
    pub(super) fn create_table(&mut self, dice: &mut Dice) -> String {
        let name = self.name("t");
        let schema = dice.pick(&SCHEMAS);
        let columns: Vec<(String, &'static str)> =
            vec![("a".into(), "int"), ("b".into(), "text"), ("c".into(), "text")];
        let table = format!("{schema}.{name}");
        let mut sql = String::new();
        let mut identity = vec!["id", "k"];
        let mut shape = Shape::Plain;
        let generated =
            if dice.chance(20) { ", g int generated always as (a + 1) stored" } else { "" };
        match dice.below(10) {
            0..3 => {
                let mut leaves = Vec::new();
                sql += &format!(
                    "create table {table} (id int, k int, a int, b text, c text {generated},
                       primary key (id, k)) partition by range (k);"
                );
                for (from, to) in [(0, 3), (3, 6)] {
                    let leaf = self.name("part");
                    sql += &format!(
                        "create table {schema}.{leaf} partition of {table}
                           for values from ({from}) to ({to});"
                    );
                    leaves.push(Leaf { name: format!("{schema}.{leaf}"), from, is: Is::Attached });
                }
                let (middle, one) = (self.name("part"), self.name("part"));
                // Columns in another order, in another schema, below another partitioned table.
                if generated.is_empty() {
                    sql += &format!(
                        "create table {schema}.{middle} (c text, k int not null, id int not null, b text, a int)
                           partition by list (k);
                         create table public.{one} (k int not null, b text, c text, a int, id int not null);
                         alter table {schema}.{middle} attach partition public.{one} default;
                         alter table {table} attach partition {schema}.{middle}
                           for values from (6) to (maxvalue);"
                    );
                } else {
                    sql += &format!("create table {schema}.{middle} partition of {table} default;");
                }
                shape = Shape::Partitioned(leaves);
            }
            3 if self.tables.iter().any(|table| table.shape == Shape::Plain) => {
                let plain: Vec<usize> = (0..self.tables.len())
                    .filter(|&at| self.tables[at].shape == Shape::Plain)
                    .collect();
                let number = dice.pick(&plain);
                let parent = self.tables[number].sql();
                sql += &format!(
                    "create table {table} (extra int, primary key (id, k)) inherits ({parent});"
                );
                shape = Shape::Child(number);
            }
            kind => {
                let key = match kind {
                    3 | 4 => {
                        identity = vec!["id"];
                        ", primary key (id)"
                    }
                    5 | 6 => ", primary key (k, id)",
                    7 => ", primary key (a, id)",
                    _ => "",
                };
                sql += &format!(
                    "create table {table} (id int not null, k int not null, a int, b text, c text
                       {generated} {key});"
                );
                if kind == 7 || kind == 8 {
                    // The index is the identity; kind 7 has another primary key.
                    sql += &format!(
                        "create unique index {name}_identity on {table} (id, k);
                         alter table {table} replica identity using index {name}_identity;"
                    );
                } else if kind == 9 {
                    identity.clear();
                    sql += &format!("alter table {table} replica identity full;");
                }
            }
        }
        if dice.chance(15) && !identity.is_empty() && !matches!(shape, Shape::Partitioned(_)) {
            identity.clear();
            sql += &format!("alter table {table} replica identity full;");
        }
        let filled = Table { schema, name, columns, identity, shape, drifted: false };
        sql += &format!(
            "insert into {table} (id, k, a, b, c)
               select i, i % 9, i % 7, (array['x', 'y', '', null])[1 + i % 4],
                      case when i % 5 = 0 then repeat('long ' || i, 700) end
                 from generate_series(1, {}) i;",
            20 + dice.below(40)
        );
        self.tables.push(filled);
        sql
    }

    /// A row filter that PostgreSQL takes for updates and deletes of the table, most of the time.
    fn filter(&self, table: &Table, dice: &mut Dice) -> String {
        let number = dice.below(40);
        let any = [
            format!("a > {}", number % 7),
            "b is not null".to_owned(),
            format!("b <> 'x' or id < {number}"),
            "c is null".to_owned(),
        ];
        let keyed = [
            format!("id > {number}"),
            format!("id % 3 <> {}", number % 3),
            format!("id between {} and {}", number / 2, number + 20),
            format!("not (id < {number} and id > {})", number / 2),
        ];
        if table.identity.is_empty() && dice.chance(60) {
            any[dice.below(any.len())].clone()
        } else if table.identity.contains(&"k") && dice.chance(30) {
            format!("k < {}", 1 + number % 9)
        } else {
            keyed[dice.below(keyed.len())].clone()
        }
    }

    /// A table as a publication may name it.
    pub(super) fn member(&self, table: &Table, dice: &mut Dice) -> String {
        let mut member = table.sql();
        if self.major < 15 {
            return member;
        }
        if !table.identity.is_empty() && dice.chance(30) {
            let mut list: Vec<&str> = vec!["id", "k"];
            list.extend(
                table.columns.iter().map(|(name, _)| name.as_str()).filter(|_| dice.chance(50)),
            );
            member += &format!(" ({})", list.join(", "));
        }
        if dice.chance(45) {
            member += &format!(" where ({})", self.filter(table, dice));
        }
        member
    }

    fn options(dice: &mut Dice) -> String {
        let publish = match dice.below(16) {
            0 => "publish = 'insert, update'",
            1 => "publish = 'insert'",
            2 => "publish = 'update, delete'",
            3 | 4 => "publish = 'truncate'",
            5 => "publish = ''",
            6 => "publish = 'update'",
            _ => "publish = 'insert, update, delete, truncate'",
        };
        format!("{publish}, publish_via_partition_root = {}", dice.chance(50))
    }

    /// Creates a publication.
    pub(super) fn create_publication(&mut self, dice: &mut Dice) -> String {
        let name = self.name("p");
        let options = Self::options(dice);
        let of = match dice.below(10) {
            0 => "for all tables".to_owned(),
            1 if self.major >= 15 => format!("for tables in schema {}", dice.pick(&SCHEMAS)),
            _ => {
                let mut members = Vec::new();
                for table in &self.tables {
                    if dice.chance(60) {
                        let only = if dice.chance(20) { "only " } else { "" };
                        members.push(format!("{only}{}", self.member(table, dice)));
                    }
                    // A partition by itself.
                    if let Shape::Partitioned(leaves) = &table.shape
                        && dice.chance(25)
                    {
                        members.push(leaves[dice.below(leaves.len())].name.clone());
                    }
                }
                match members.is_empty() {
                    true => String::new(),
                    false => format!("for table {}", members.join(", ")),
                }
            }
        };
        self.publications.push(Publication { name: name.clone(), drifted: false });
        format!("create publication {name} {of} with ({options})")
    }

    /// Changes a publication, or drops one.
    pub(super) fn alter_publication(&mut self, dice: &mut Dice) -> String {
        if self.publications.len() > 3 && dice.chance(15) {
            self.dropped = true;
            let Publication { name, .. } =
                self.publications.remove(dice.below(self.publications.len()));
            return format!("drop publication {name}");
        }
        let at = dice.below(self.publications.len());
        let table = self.tables[dice.below(self.tables.len())].clone();
        let member = self.member(&table, dice);
        let publication = &mut self.publications[at];
        publication.drifted = true;
        let name = &publication.name;
        match dice.below(6) {
            0 => format!("alter publication {name} add table {member}"),
            1 => format!("alter publication {name} drop table {}", table.sql()),
            2 | 3 => format!(
                "alter publication {name} drop table {};
                 alter publication {name} add table {member}",
                table.sql()
            ),
            4 => format!(
                "alter publication {name} set (publish_via_partition_root = {})",
                dice.chance(50)
            ),
            _ => format!("alter publication {name} set ({})", Self::options(dice)),
        }
    }
}
