//! What restores say of their past, recorded while they can be asked and used when they cannot.

use deltacompare_testbed::{Options, Postgres, Production, Server, StopMode};
use serde_json::Value;

use crate::support::{Gap, Run, deltacompare};

/// Two restores with one row between them, and where their recoveries were told to end.
async fn restores() -> (Gap, String, String) {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production
        .sql("create table t (id int primary key); create publication p for all tables")
        .await
        .unwrap();
    production.base_backup().await.unwrap();
    let lost = production.restore_point("lost").await.unwrap();
    production.sql("insert into t values (1)").await.unwrap();
    let back = production.restore_point("back").await.unwrap();
    let (base, head) =
        tokio::try_join!(production.restore(&lost), production.restore(&back)).unwrap();
    (Gap::of(base, head).await, lost.lsn, back.lsn)
}

fn record(run: &Run) -> Value {
    serde_json::from_slice(&std::fs::read(run.file("recorded.json")).unwrap()).unwrap()
}

/// What the server's control file says, which no part of the program reads.
async fn system_identifier(server: &Server) -> String {
    server.value("select system_identifier::text from pg_control_system()").await.unwrap()
}

async fn plan(gap: &Gap, recorded: Option<&str>) -> Run {
    let mut arguments = vec!["plan", "--json"];
    if let Some(file) = recorded {
        arguments.extend(["--recorded", file]);
    }
    deltacompare(gap, &arguments).run().await
}

fn ends(run: &Run) -> (Value, String) {
    run.assert_completed();
    let plan: Value = serde_json::from_str(&run.stdout).unwrap();
    (plan["ends"].clone(), plan["warnings"].to_string())
}

async fn a_record_tells_where_the_restores_ended_when_they_no_longer_can() {
    let (gap, base_end, head_end) = restores().await;
    let recorded = deltacompare(&gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    recorded.assert_completed();
    let written = record(&recorded);
    for (side, server, end) in [("base", &gap.base, &base_end), ("head", &gap.head, &head_end)] {
        assert_eq!(written[side]["recovery_end"], **end, "{written:#}");
        assert_eq!(written[side]["last_replayed"], **end, "{written:#}");
        assert_eq!(written[side]["system_identifier"], *system_identifier(server).await);
    }
    // A clean restart and a role without REPLICATION: neither way of asking is left.
    for server in [&gap.base, &gap.head] {
        server.stop(StopMode::Fast).await.unwrap();
        server.start().await.unwrap();
        server.sql("alter role azure_admin noreplication").await.unwrap();
    }
    let (unknown, warnings) = ends(&plan(&gap, None).await);
    assert_eq!(unknown, Value::Null);
    assert!(warnings.contains("not proved"), "{warnings}");

    let file = recorded.file("recorded.json").display().to_string();
    let (known, warnings) = ends(&plan(&gap, Some(&file)).await);
    assert_eq!(known, serde_json::json!([base_end, head_end]));
    assert!(warnings.contains("as it was recorded"), "{warnings}");
    assert!(!warnings.contains("not proved"), "{warnings}");

    // A second record would have less: the first stays as it is.
    let again = deltacompare(&gap, &["record", "--file", &file]).run().await;
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    assert_eq!(record(&recorded), written);
    let poor = deltacompare(&gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    poor.assert_completed();
    assert!(poor.stdout.contains("REPLICATION"), "{}", poor.stdout);
    let poor = record(&poor);
    assert_eq!(
        (&poor["base"]["history"], &poor["base"]["last_replayed"]),
        (&Value::Null, &Value::Null)
    );
}

async fn a_record_of_other_restores_and_a_file_that_is_none_are_refused() {
    let (gap, _, _) = restores().await;
    let recorded = deltacompare(&gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    recorded.assert_completed();
    let mut swapped = record(&recorded);
    let (base, head) = (swapped["base"].take(), swapped["head"].take());
    swapped["base"] = head;
    swapped["head"] = base;
    let other = recorded.file("other.json").display().to_string();
    std::fs::write(&other, swapped.to_string()).unwrap();
    let refused = plan(&gap, Some(&other)).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("another restore than base"), "{}", refused.stderr);

    std::fs::write(&other, r#"{"base": {}}"#).unwrap();
    let refused = plan(&gap, Some(&other)).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("is not a record"), "{}", refused.stderr);
}

/// A server whose size is changed on Azure may be replaced by a promoted standby of it: another timeline,
/// and counts of writes that begin anew.
async fn a_record_is_good_for_a_copy_that_was_promoted_since() {
    let (gap, base_end, head_end) = restores().await;
    let recorded = deltacompare(&gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    recorded.assert_completed();
    let file = recorded.file("recorded.json").display().to_string();
    let (ends_before, warnings) = ends(&plan(&gap, Some(&file)).await);
    assert_eq!(ends_before, serde_json::json!([base_end, head_end]));
    assert!(!warnings.contains("promoted"), "{warnings}");

    // As a standby of itself that is promoted once it has replayed what it has.
    for setting in [
        "recovery_target_name = ''",
        "recovery_target_timeline = 'latest'",
        "restore_command = 'false'",
    ] {
        gap.base.sql(format!("alter system set {setting}")).await.unwrap();
    }
    gap.base.stop(StopMode::Fast).await.unwrap();
    std::fs::write(gap.base.data_dir().join("recovery.signal"), "").unwrap();
    gap.base.start().await.unwrap();

    let told = plan(&gap, Some(&file)).await;
    let (known, warnings) = ends(&told);
    assert_eq!(known, serde_json::json!([base_end, head_end]));
    assert!(warnings.contains("base was promoted since it was recorded"), "{warnings}");
    assert!(!warnings.contains("head was promoted"), "{warnings}");
    let table = &serde_json::from_str::<Value>(&told.stdout).unwrap()["tables"][0];
    assert_eq!(table["strategy"], "content", "{table:#}");
    // Without the record, the two look like two sides of a failover.
    let (unknown, warnings) = ends(&plan(&gap, None).await);
    assert_eq!(unknown, Value::Null);
    assert!(warnings.contains("is not on head's history"), "{warnings}");

    let run = deltacompare(&gap, &["run", "--sink", "ndjson:{dir}/events", "--recorded", &file]);
    run.run().await.assert_completed();
}

tests! {
    a_record_is_good_for_a_copy_that_was_promoted_since: own_servers,

    a_record_tells_where_the_restores_ended_when_they_no_longer_can: own_servers,
    a_record_of_other_restores_and_a_file_that_is_none_are_refused: own_servers,
}
