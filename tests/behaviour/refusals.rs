//! What cannot be served is refused, with a sentence that names the next step, and leaves both
//! servers as they were.

mod activity;
mod logins;
mod selections;
mod servers;

use std::time::Duration;

use deltacompare_testbed::Server;

use crate::support::{Fingerprint, Gap, Program, Run, deltacompare};

const SHOP: &str = r#"
    create table customer (id int primary key, name text);
    create table invoice (id int primary key, amount numeric);
    insert into customer select i, 'customer ' || i from generate_series(1, 20) i;
    insert into invoice select i, i from generate_series(1, 20) i;
    create publication shop for table customer, invoice;
"#;

/// More (sub)transactions than two restores make of themselves.
const GAP: &str = r#"
    do $$ begin
      for i in 21..120 loop
        begin
          insert into customer values (i, 'new');
        exception when others then null;
        end;
      end loop;
    end $$;
    delete from invoice where id < 4;
"#;

/// A run with a sink; its arguments come on top.
fn run(gap: &Gap, arguments: &[&str]) -> Program {
    let mut all = vec!["run", "--sink", "ndjson:{dir}/events", "--report", "{dir}/report"];
    all.extend_from_slice(arguments);
    deltacompare(gap, &all)
}

/// A run in which one side is reached under another URL.
fn run_with(gap: &Gap, side: &str, url: &str, arguments: &[&str]) -> Program {
    run(gap, arguments).env(&format!("DELTACOMPARE_{side}"), url)
}

/// Fails unless the program refuses with all of these words and changes nothing on either server.
async fn assert_refused(gap: &Gap, program: Program, words: &[&str]) -> Run {
    let (base, head) = Fingerprint::of_both(gap).await;
    let run = assert_refused_unseen(program, words).await;
    base.assert_same(&Fingerprint::of(&gap.base).await, "base");
    head.assert_same(&Fingerprint::of(&gap.head).await, "head");
    run
}

/// The same where a server is not there to be looked at.
async fn assert_refused_unseen(program: Program, words: &[&str]) -> Run {
    let run = program.run().await;
    assert_eq!(run.code, Some(2), "stdout:\n{}\nstderr:\n{}", run.stdout, run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in:\n{}", run.stderr);
    }
    assert!(!run.file("events").exists() && !run.file("report").exists());
    run
}

/// Fails unless it completes: what is refused elsewhere is not refused here.
async fn assert_runs(program: Program) -> Run {
    let run = program.run().await;
    run.assert_completed();
    run
}

/// Fails unless a plan is made: what is refused elsewhere is not refused here. Quicker than a run.
async fn assert_plans(gap: &Gap) {
    deltacompare(gap, &["plan"]).run().await.assert_completed();
}

/// Runs a statement that writes, and waits until the statistics show it.
async fn write(server: &Server, statement: &str) {
    server.sql(statement).await.unwrap();
    for _ in 0..200 {
        let written: bool = server
            .value(
                "select exists (select from pg_stat_user_tables where schemaname = 'public' \
                    and n_tup_ins + n_tup_upd + n_tup_del > 0)",
            )
            .await
            .unwrap();
        if written {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{statement} was never counted");
}

tests! {
    [activity, logins, selections, servers]
}
