//! What row versions stay comparable through.

use super::*;

const COMPARABLE: &str = "row versions are comparable";

const CASES: &[Case] = &[Case {
    table: "vacuumed",
    before: &["create table vacuumed (id int primary key, v text);
                   create publication shop for all tables with (publish_via_partition_root);
                   insert into vacuumed select i, 'v' || i from generate_series(1, 3000) i"],
    during: &[
        "delete from vacuumed where id % 3 = 0",
        "vacuum vacuumed",
        "insert into vacuumed select i, 'new' from generate_series(4000, 4500) i",
    ],
    strategy: "identity",
    reason: COMPARABLE,
    changes: Some((501, 0, 1000)),
}];

#[tokio::test]
async fn row_versions_stay_comparable() {
    let gap = gap_of(Options::default(), CASES).await;
    let auto = program(&gap, "auto", &[]).run().await;
    assert_cases(&gap, &auto, CASES).await;
}
