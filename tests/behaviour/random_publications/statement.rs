//! Random statements: what happens to rows, and what happens to tables.

use super::world::{Dice, Is, Leaf, Shape, Table, World};

/// A change of rows.
pub(super) fn of_rows(world: &World, dice: &mut Dice) -> String {
    let table = &world.tables[dice.below(world.tables.len())];
    let name = table.sql();
    let which = rows(dice);
    let column = |dice: &mut Dice| {
        let at = dice.below(table.columns.len());
        table.columns[at].clone()
    };
    match dice.below(20) {
        0..4 => {
            let (from, count) = (dice.below(80), dice.below(6));
            format!(
                "insert into {name} (id, k, {}) select i, {}, {} from generate_series({from}, {}) i
                   on conflict do nothing",
                list(table),
                dice.pick(&["i % 9", "(i + 3) % 9", "0", "8"]),
                values(table, dice),
                from + count
            )
        }
        4..11 => {
            let (column, of) = column(dice);
            format!("update {name} set {column} = {} where {which}", value(of, dice))
        }
        11 => {
            let (column, _) = column(dice);
            format!("update {name} set {column} = {column} where {which}")
        }
        12 => {
            format!("update {name} set id = id + {} where {which}", dice.pick(&[100, -100, 1000]))
        }
        13 => format!("update {name} set k = (k + {}) % 9 where {which}", 1 + dice.below(8)),
        14 | 15 => format!("delete from {name} where {which}"),
        16 => format!(
            "with gone as (delete from {name} where {which} returning id, k, {0})
             insert into {name} (id, k, {0}) select id, k, {0} from gone",
            list(table)
        ),
        17 => format!(
            "with gone as (delete from {name} where {which} returning id, k)
             insert into {name} (id, k, {}) select id, k, {} from gone",
            list(table),
            values(table, dice)
        ),
        18 => format!(
            "update {name} set id = -id where {which}; update {name} set id = 7 - id where id < 0"
        ),
        _ if dice.chance(20) => format!("truncate {name}"),
        _ => format!("delete from only {name} where {which}"),
    }
}

fn rows(dice: &mut Dice) -> String {
    let number = dice.below(70);
    match dice.below(5) {
        0 => format!("id = {number}"),
        1 => format!("id between {number} and {}", number + dice.below(12)),
        2 => format!("id % 7 = {}", number % 7),
        3 => format!("k = {}", number % 9),
        _ => format!("id > {number} and id % 2 = {}", number % 2),
    }
}

fn list(table: &Table) -> String {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
    names.join(", ")
}

fn values(table: &Table, dice: &mut Dice) -> String {
    let values: Vec<String> = table.columns.iter().map(|(_, of)| value(of, dice)).collect();
    values.join(", ")
}

fn value(of: &str, dice: &mut Dice) -> String {
    match of {
        "text" => match dice.below(6) {
            0 => "null".to_owned(),
            1 => "''".to_owned(),
            2 => format!("repeat('big {} ', 900)", dice.below(3)),
            3 => "E'tab\\t\\\\ \"quoted\" é'".to_owned(),
            _ => format!("'v{}'", dice.below(4)),
        },
        "numeric" => dice.pick(&["1.0", "1.00", "null", "-3"]).to_owned(),
        _ => match dice.below(5) {
            0 => "null".to_owned(),
            number => format!("{}", number * 3),
        },
    }
}

/// A change of a table's definition, which the world learns of.
pub(super) fn of_tables(world: &mut World, dice: &mut Dice) -> String {
    let at = dice.below(world.tables.len());
    let number = world.name("x");
    let major = world.major;
    let table = &mut world.tables[at];
    let name = table.sql();
    table.drifted = true;
    let columns = table.columns.len();
    match dice.below(16) {
        0 => {
            table.columns.push((number.clone(), "int"));
            let default = dice.pick(&["", " default 7", " default (random() * 3)::int"]);
            format!("alter table {name} add {number} int{default}")
        }
        1 if columns > 1 => {
            let (column, _) = table.columns.remove(dice.below(columns));
            format!("alter table {name} drop column {column} cascade")
        }
        2 => {
            let renamed = &mut table.columns[dice.below(columns)].0;
            let old = std::mem::replace(renamed, number.clone());
            format!("alter table {name} rename {old} to {number}")
        }
        // Dropped, and made anew under the same name.
        3 => {
            let (column, of) = &mut table.columns[dice.below(columns)];
            *of = "int";
            format!(
                "alter table {name} drop column {column} cascade; alter table {name} add {column} int"
            )
        }
        // Two columns exchange their names.
        4 if columns > 1 => {
            let (one, two) = (table.columns[0].0.clone(), table.columns[1].0.clone());
            let of = (table.columns[0].1, table.columns[1].1);
            (table.columns[0].1, table.columns[1].1) = (of.1, of.0);
            format!(
                "alter table {name} rename {one} to {number};
                 alter table {name} rename {two} to {one}; alter table {name} rename {number} to {two}"
            )
        }
        5 => {
            let (column, of) = &mut table.columns[dice.below(columns)];
            let to = dice.pick(&["text", "bigint", "numeric"]);
            *of = to;
            format!("alter table {name} alter {column} type {to} using {column}::text::{to}")
        }
        6 => {
            table.name = number.clone();
            format!("alter table {name} rename to {number}")
        }
        7 => {
            table.schema = if table.schema == "public" { "sold" } else { "public" };
            format!("alter table {name} set schema {}", table.schema)
        }
        8 if table.shape == Shape::Plain => {
            table.columns = vec![("c".into(), "text"), ("a".into(), "int"), ("b".into(), "text")];
            table.identity = vec!["id"];
            format!(
                "create table {number} as select id, k from {name}; drop table {name} cascade;
                 create table {name} (c text, k int, a int, id int primary key, b text);
                 insert into {name} (id, k, a)
                   select distinct on (id) id, k, id % 7 from {number} order by id, k;
                 drop table {number}"
            )
        }
        9 => {
            table.identity.clear();
            format!("alter table {name} replica identity full")
        }
        10 if major >= 15 || !matches!(table.shape, Shape::Partitioned(_)) => {
            table.identity = vec!["id", "k"];
            format!("alter table {name} replica identity default")
        }
        11 if table.shape == Shape::Plain => {
            table.identity = vec!["id", "k"];
            format!(
                "alter table {name} add constraint {number} unique (id, k);
                 alter table {name} replica identity using index {number}"
            )
        }
        _ => of_partitions(table, &number, dice),
    }
}

fn of_partitions(table: &mut Table, number: &str, dice: &mut Dice) -> String {
    let name = table.sql();
    let Shape::Partitioned(leaves) = &mut table.shape else {
        return format!("alter table {name} add {number} int; alter table {name} drop {number}");
    };
    let at = dice.below(leaves.len());
    let Leaf { name: leaf, from, is } = &mut leaves[at];
    let to = *from + 3;
    match *is {
        Is::Attached if dice.chance(40) => {
            *is = Is::Gone;
            format!("drop table {leaf}")
        }
        Is::Attached => {
            *is = Is::Detached;
            format!("alter table {name} detach partition {leaf}")
        }
        Is::Detached => {
            *is = Is::Attached;
            format!("alter table {name} attach partition {leaf} for values from ({from}) to ({to})")
        }
        Is::Gone => {
            *is = Is::Attached;
            if dice.chance(50) {
                *leaf = format!("sold.{number}");
            }
            format!("create table {leaf} partition of {name} for values from ({from}) to ({to})")
        }
    }
}
