//! How long one core takes to compute a checksum of a whole table, by each of the ways there are.
//! What the `content` strategy computes is read off the server: its own statement, as it came.

use anyhow::{Context, Result};
use std::time::Instant;

use crate::Arguments;
use crate::contender::{Contender, Programs};
use crate::data::{DataSet, TABLE};
use crate::pair::Pair;

const WAYS: [(&str, &str); 5] = [
    ("count(*)", "1"),
    ("md5 of the text", "('x' || left(md5(t::text), 16))::bit(64)::int8"),
    ("hash of the text", "hashtextextended(t::text, 0)"),
    ("hash of record_send", "hash_array_extended(array[record_send(t)], 0)"),
    ("hash_record_extended, which folds", "hash_record_extended(t, 0)"),
];

/// Prints the median of each.
pub(crate) async fn measure(arguments: &Arguments) -> Result<()> {
    let pair =
        Pair::make(DataSet::Same, arguments.rows, &arguments.folder, arguments.major).await?;
    let ours = our_checksum(&pair, &arguments.programs).await?;
    let connection = pair.base.connect().await?;
    for setting in ["jit = off", "max_parallel_workers_per_gather = 0"] {
        connection.sql(&format!("set {setting}")).await?;
    }
    let ways = WAYS.iter().copied().chain([("content's checksum", ours.as_str())]);
    for (name, expression) in ways {
        let sql = format!("select bit_xor({expression}) from {TABLE} {alias}", alias = alias(name));
        let mut seconds = Vec::new();
        for _ in 0..=arguments.runs {
            let since = Instant::now();
            connection.sql(&sql).await?;
            seconds.push(since.elapsed().as_secs_f64());
        }
        seconds.remove(0);
        seconds.sort_by(f64::total_cmp);
        println!("{name}: {:.2} s", seconds[seconds.len() / 2]);
    }
    connection.close().await?;
    Ok(())
}

/// The strategy's statements name the table `r`.
fn alias(name: &str) -> &str {
    if name == "content's checksum" { "r" } else { "t" }
}

/// The expression for a row's checksum in a statement that the program sent.
async fn our_checksum(pair: &Pair, programs: &Programs) -> Result<String> {
    pair.base.sql("alter system set log_min_duration_statement = 0").await?;
    pair.base.sql("select pg_reload_conf()").await?;
    Contender::Content.run(pair, programs, false).await?;
    pair.base.sql("alter system reset log_min_duration_statement").await?;
    pair.base.sql("select pg_reload_conf()").await?;
    let log = pair.base.log();
    // Of the statements that compute checksums, the one that reads this table.
    let rest = log
        .split("bit_xor(")
        .skip(1)
        .find(|rest| rest.lines().nth(1).is_some_and(|from| from.contains(TABLE)))
        .context("the program's statement is not in the log")?;
    let mut depth = 1;
    let end = rest
        .char_indices()
        .find(|(_, letter)| {
            depth += i32::from(*letter == '(') - i32::from(*letter == ')');
            depth == 0
        })
        .context("half a statement")?
        .0;
    Ok(rest[..end].to_owned())
}
