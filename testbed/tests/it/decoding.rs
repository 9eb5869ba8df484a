//! What a logical slot on production delivers: the oracle for what a recovery must yield.

use anyhow::Result;
use deltacompare_testbed::{Options, Postgres, Production};

#[tokio::test]
async fn slots_yield_what_was_committed_since_they_were_created() -> Result<()> {
    let production = Production::start(&Postgres::find(None)?, Options::default()).await?;
    production
        .sql("create table t (id int primary key, v text); create publication \"P q\" for table t")
        .await?;
    production.create_logical_slot("text", "test_decoding").await?;
    let point = production.create_logical_slot("messages", "pgoutput").await?;
    assert!(point.contains('/'));
    production.sql("insert into t values (1, 'a')").await?;
    production.sql("delete from t").await?;

    let changes = production.decode_changes("text").await?;
    let data: Vec<_> = changes.iter().map(|c| c.data.as_str()).collect();
    assert!(data.contains(&"table public.t: INSERT: id[integer]:1 v[text]:'a'"), "{data:?}");
    assert!(data.contains(&"table public.t: DELETE: id[integer]:1"), "{data:?}");
    assert!(production.decode_changes("text").await?.is_empty(), "they are consumed");

    let messages = production.decode_messages("messages", "P q").await?;
    let kinds: String = messages.iter().map(|m| char::from(m[0])).collect();
    assert_eq!(kinds, "BRICBDC");
    Ok(())
}
