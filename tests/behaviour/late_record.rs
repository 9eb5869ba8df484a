//! What a record says of the time before it was made, and restores that leave no gap. These tests
//! keep servers of their own: they look at the first transactions after a restore's end.

use deltacompare_testbed::{Options, Postgres, Production};
use serde_json::Value;

use crate::support::{Gap, Run, deltacompare};

async fn production() -> Production {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production
        .sql(
            "create table t (id int primary key, v text); create table u (id int primary key);
             insert into t select i, 'a' from generate_series(1, 200) i;
             create publication p for all tables",
        )
        .await
        .unwrap();
    production
}

async fn record(gap: &Gap) -> (Run, Value) {
    let run = deltacompare(gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    run.assert_completed();
    let record = serde_json::from_slice(&std::fs::read(run.file("recorded.json")).unwrap());
    (run, record.unwrap())
}

/// The tables that a record says were altered before it.
fn altered(recorded: &Value) -> Vec<&str> {
    let relations = recorded["relations"].as_array().unwrap().iter();
    let altered = relations.filter(|relation| relation["altered"] == true);
    altered.map(|relation| relation["table"].as_str().unwrap()).collect()
}

async fn plan(gap: &Gap, recorded: &Run) -> Value {
    let file = recorded.file("recorded.json").display().to_string();
    let arguments = ["plan", "--json", "--recorded", &file];
    let plan = deltacompare(gap, &arguments).run().await;
    plan.assert_completed();
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let end = |at: usize| plan["ends"][at].as_str().unwrap();
    let positions = ["--lost-at-lsn", end(0), "--new-slot-lsn", end(1)];
    let arguments: Vec<&str> = arguments.into_iter().chain(positions).collect();
    let plan = deltacompare(gap, &arguments).run().await;
    plan.assert_completed();
    serde_json::from_str(&plan.stdout).unwrap()
}

async fn a_record_says_what_came_before_it() {
    let gap = Gap::own_after(
        production().await,
        "update t set v = 'b' where id <= 5; insert into u values (1)",
    )
    .await;
    // Base is recorded as it was restored; head lets its administrator use postgres_fdw first.
    let (first, record_of_first) = record(&gap).await;
    for side in ["base", "head"] {
        let recorded = &record_of_first[side];
        assert!(recorded["ended_at"].is_string(), "{recorded:#}");
        assert_eq!(altered(recorded), [""; 0], "{recorded:#}");
        assert_eq!(recorded["relations"].as_array().unwrap().len(), 2, "{recorded:#}");
    }
    assert_eq!(record_of_first["base"]["transactions"], 0, "{record_of_first:#}");
    assert_eq!(record_of_first["head"]["transactions"], 1, "{record_of_first:#}");
    let proven = plan(&gap, &first).await;
    assert_eq!(proven["gap"]["verdict"], "proven", "{proven:#}");
    let why = proven["gap"]["why"].as_str().unwrap();
    for says in
        ["after its recovery had ended", "no transaction in between", "1 transaction in between"]
    {
        assert!(why.contains(says), "{says}: {why}");
    }
    // When the data is from, by production's clock; base replayed no transaction.
    assert!(proven["head_last_commit"].is_string(), "{proven:#}");
    assert_eq!(proven["base_last_commit"], Value::Null, "{proven:#}");

    // A table that was altered before the record was made: not refused, but not proven either.
    gap.head.sql("truncate t").await.unwrap();
    gap.base.sql("alter table u drop column id").await.unwrap();
    let (late, record_of_late) = record(&gap).await;
    assert_eq!(altered(&record_of_late["head"]), ["t"]);
    assert_eq!(altered(&record_of_late["base"]), ["u"]);
    assert!(late.stdout.contains("public.t"), "{}", late.stdout);
    let unproven = plan(&gap, &late).await;
    assert_eq!(unproven["gap"]["verdict"], "not_provable", "{unproven:#}");
    let why = unproven["gap"]["why"].as_str().unwrap();
    assert!(why.contains("public.t on head") && why.contains("public.u on base"), "{why}");

    // Once a checkpoint has come, what happened before it is no longer known.
    for server in [&gap.base, &gap.head] {
        server.sql("checkpoint").await.unwrap();
    }
    let (latest, record_of_latest) = record(&gap).await;
    assert_eq!(record_of_latest["head"]["transactions"], Value::Null);
    assert!(latest.stdout.contains("not known"), "{}", latest.stdout);
    let why = plan(&gap, &latest).await["gap"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("transactions in between are not known"), "{why}");
}

async fn two_restores_to_one_place_are_refused() {
    let production = production().await;
    production.base_backup().await.unwrap();
    let lost = production.restore_point("lost").await.unwrap();
    production.sql("update t set v = 'b' where id <= 5").await.unwrap();
    let (base, head) =
        tokio::try_join!(production.restore(&lost), production.restore(&lost)).unwrap();
    let gap = Gap::of(base, head).await;
    let run = async |more: &[&str]| {
        let mut arguments =
            vec!["run", "--sink", "ndjson:{dir}/events", "--report", "{dir}/report"];
        arguments.extend(more);
        deltacompare(&gap, &arguments).run().await
    };
    let assert_refused = |run: &Run| {
        assert_eq!(run.code, Some(2), "{}{}", run.stdout, run.stderr);
        for says in [lost.lsn.as_str(), "both restores end at", "--accept empty-gap"] {
            assert!(run.stderr.contains(says), "{says}: {}", run.stderr);
        }
        assert!(!run.file("events").exists());
    };
    assert_refused(&run(&[]).await);
    assert_refused(&run(&["--lost-at-lsn", &lost.lsn]).await);
    let accepted = run(&["--accept", "empty-gap"]).await;
    accepted.assert_completed();
    assert_eq!(accepted.counts("report", "public.t"), (0, 0, 0));
    assert!(accepted.stderr.contains("both restores end at"), "{}", accepted.stderr);
    // Slots that stood there, too: nothing was missed.
    run(&["--lost-at-lsn", &lost.lsn, "--new-slot-lsn", &lost.lsn]).await.assert_completed();

    // The same without histories, while the servers know what they replayed last.
    for server in [&gap.base, &gap.head] {
        server.sql("alter role azure_admin noreplication").await.unwrap();
    }
    assert_refused(&run(&[]).await);
}

tests! {
    a_record_says_what_came_before_it: own_servers,
    two_restores_to_one_place_are_refused: own_servers,
}
