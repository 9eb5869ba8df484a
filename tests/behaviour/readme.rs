//! What the README promises.

use deltacompare_testbed::Postgres;

use crate::support::{Gap, assert_events_turn_base_into_head, deltacompare, url};

const README: &str = include_str!("../../README.md");

/// The SQL under "On base:" or "On head:".
fn sql(after: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n{after}\n```sql\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// A table with a key, one without, a filtered one, a parent with a child: each is read otherwise.
const SHOP: &str = r#"
    create table customer (id int primary key, name text, vip boolean not null);
    create table log (message text);
    create table vehicle (id int primary key, name text);
    create table lorry (load int) inherits (vehicle);
    alter table lorry add primary key (id);
    create publication shop for table customer where (vip), log, only vehicle, only lorry;
    alter table customer replica identity full;
    insert into customer select i, 'customer ' || i, i % 2 = 0 from generate_series(1, 20) i;
    insert into log select 'message ' || i / 2 from generate_series(1, 20) i;
    insert into vehicle select i, 'car ' || i from generate_series(1, 5) i;
    insert into lorry select i, 'lorry ' || i, i from generate_series(11, 15) i;
"#;

const GAP: &str = r#"
    update customer set name = 'new' where id in (4, 5);
    insert into log values ('new'), ('message 3');
    delete from only vehicle where id = 2;
    update lorry set load = 100 where id = 12;
"#;

#[tokio::test]
async fn the_rights_in_the_readme_suffice() {
    // Row filters came with 15.
    let filters = Postgres::find(None).unwrap().major() >= 15;
    let shop = if filters { SHOP.to_owned() } else { SHOP.replace(" where (vip)", "") };
    let gap = Gap::between(&shop, GAP).await;
    gap.base.sql(sql("On base:")).await.unwrap();
    gap.head.sql(sql("On head:")).await.unwrap();
    for strategy in ["auto", "full"] {
        let file = format!("ndjson:{{dir}}/{strategy}");
        let arguments = [
            "run",
            "--sink",
            &file,
            "--format",
            "landing",
            "--before",
            "full",
            "--strategy",
            strategy,
        ];
        let run = deltacompare(&gap, &arguments)
            .env("DELTACOMPARE_BASE", &url(&gap.base, "recovery", "a secret"))
            .env("DELTACOMPARE_HEAD", &url(&gap.head, "recovery", "another secret"))
            .run()
            .await;
        run.assert_completed();
        assert!(!run.stderr.contains("not proved"), "{}", run.stderr);
        let events = run.events(strategy);
        assert_events_turn_base_into_head(&gap, &["log"], &events).await;
        assert!(!events.of("customer").is_empty());
    }
}
