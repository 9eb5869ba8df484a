//! The runbook's own lines, in its own order, on a server whose slot is lost: what its queries print
//! proves the gap, and its requests recover it.

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions};
use deltacompare_testbed::{Options, Postgres, Production, TextRow};
use serde_json::Value;

use crate::support::{Gap, Hosted, deltacompare};
use crate::vault::{self, Azure};

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// The statements of each block of SQL under the heading, without comments.
fn blocks(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = RUNBOOK.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    section
        .split("```sql\n")
        .skip(1)
        .map(|rest| {
            let code = rest.split_once("```").unwrap().0;
            let lines: Vec<&str> =
                code.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
            let statements = lines.join("\n");
            let statements = statements.split(';').map(str::trim).filter(|it| !it.is_empty());
            // A minute of the operator's, none of the test's.
            statements.map(|it| it.replace("pg_sleep(60)", "pg_sleep(0)")).collect()
        })
        .collect()
}

/// What the only row that has any value of this column says.
fn value(rows: &[TextRow], column: &str) -> String {
    rows.iter().find_map(|row| row.get(column)).unwrap().to_owned()
}

/// The lines of the block of shell that has this text.
fn shell(text: &str) -> &'static str {
    let blocks = RUNBOOK.split("```sh\n").skip(1);
    let mut blocks = blocks.map(|rest| rest.split_once("```").unwrap().0);
    blocks.find(|block| block.contains(text)).unwrap()
}

/// A gap, and what the runbook's queries printed: LOST, NEW_SLOT and RESTART.
struct BadDay {
    gap: Gap,
    lost: String,
    new_slot: String,
    restart: String,
}

impl BadDay {
    async fn begins() -> Self {
        let production =
            Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
        production
            .sql("create table t (id int primary key); create publication orders for table t")
            .await
            .unwrap();
        production.base_backup().await.unwrap();
        production.create_logical_slot("downstream", "pgoutput").await.unwrap();
        production.sql("insert into t values (1)").await.unwrap();
        let lost_moment = production.restore_point("lost").await.unwrap();
        assert!(!production.decode_messages("downstream", "orders").await.unwrap().is_empty());
        production.sql("insert into t values (2)").await.unwrap();

        let blocks = blocks("The bad day");
        assert_eq!(blocks.len(), 3, "{blocks:#?}");
        let session = production.connect().await.unwrap();
        let mut printed: Vec<Vec<TextRow>> = Vec::new();
        for statement in blocks.iter().flatten() {
            // By the simple protocol, as psql: every value comes as text.
            printed.push(session.text_rows(statement).await.unwrap());
        }
        let lost = value(&printed[0], "lost");
        let (new_slot, restart) = (value(&printed[3], "new_slot"), value(&printed[3], "restart"));
        assert!(value(&printed[4], "kept").parse::<i64>().unwrap() >= 0);
        // Nothing that would wake up is on this server.
        let [subscriptions, servers, extensions] = &printed[printed.len() - 3..] else { panic!() };
        assert!(subscriptions.is_empty() && servers.is_empty() && extensions.is_empty());

        let back = production.restore_point("back").await.unwrap();
        let (base, head) =
            tokio::try_join!(production.restore(&lost_moment), production.restore(&back)).unwrap();
        Self { gap: Gap::of(base, head).await, lost, new_slot, restart }
    }

    /// Lines of the runbook with its placeholders filled in.
    fn fill(&self, lines: &str) -> String {
        lines
            .replace("<LOST>", &self.lost)
            .replace("<NEW_SLOT>", &self.new_slot)
            .replace("<RESTART>", &self.restart)
    }
}

async fn what_its_queries_print_proves_the_gap() {
    let day = BadDay::begins().await;
    let lines = day.fill(shell("deltacompare plan"));
    let line = lines.lines().find(|line| line.starts_with("deltacompare plan ")).unwrap();
    let record = deltacompare(&day.gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    record.assert_completed();
    let recorded = record.file("recorded.json").display().to_string();
    let line = line.replace("recorded.json", &recorded);
    let mut arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
    arguments.push("--json");
    let plan = deltacompare(&day.gap, &arguments).run().await;
    plan.assert_completed();
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["gap"]["verdict"], "proven", "{plan:#}");
}

/// "Without the app": passwords from the vault, events into the hub, both as one identity, which needs
/// the role that the page names.
async fn without_the_app_the_events_are_in_the_hub() {
    let (day, azure) = (BadDay::begins().await, Azure::start(None).await);
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let record = deltacompare(&day.gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    record.assert_completed();
    vault::keep_passwords(&azure, &day.gap).await;
    let recorded = record.file("recorded.json").display().to_string();
    let lines = day.fill(shell("deltacompare plan")).replace("\\\n", " ");
    let line = lines.lines().find(|line| line.starts_with("deltacompare run --pub")).unwrap();
    let line = line
        .replace("recorded.json", &recorded)
        .replace("<namespace>", "standin")
        .replace("<hub>", "orders")
        .replace("report.json", "{dir}/report");
    let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
    let program = || {
        azure.program(&day.gap, &arguments).env("DELTACOMPARE_EVENT_HUB_ENDPOINT", &hub.endpoint())
    };
    let role = "Azure Event Hubs Data Sender";
    assert!(RUNBOOK.contains(&format!("| the one hub | {role} |")));
    let refused = program().run().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains(role), "{}", refused.stderr);

    hub.trust(azure.identity.tokens());
    let run = program().run().await;
    run.assert_completed();
    assert_eq!(run.counts("report", "public.t"), (1, 0, 0));
    let [event] = hub.events().try_into().unwrap();
    let body: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!((&body["op"], &body["after"]["id"]), (&"c".into(), &2.into()), "{body:#}");
}

async fn its_requests_recover_the_gap() {
    let day = BadDay::begins().await;
    let app = Hosted::start(&day.gap, 1, &[]).await;
    let record = deltacompare(&day.gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    record.assert_completed();
    let folder = record.file("recorded.json").parent().unwrap().to_owned();
    let bash = async |lines: &str| {
        let output = tokio::process::Command::new("bash")
            .args(["-e", "-c", lines])
            .current_dir(&folder)
            .env("APP", app.host.url())
            .env("KEY", app.host.host_key())
            .env("HEAD", "shop-dc-head")
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!format!("{text}{error}").contains(app.host.host_key()), "{text}{error}");
        (output.status.success(), text, error)
    };
    // What Azure would have answered is in the environment; the hub is the delta table here.
    let look = day.fill(shell("api \"$APP/api/plan\""));
    let look: String = look
        .lines()
        .filter(|line| !line.starts_with("APP=") && !line.starts_with("KEY="))
        .map(|line| format!("{line}\n"))
        .collect();
    let look = look.replace("event-hub:<namespace>.servicebus.windows.net/<hub>", "delta-table");
    let (looked, said, error) = bash(&look).await;
    assert!(looked, "{said}{error}");
    let answers: Vec<Value> =
        serde_json::Deserializer::from_str(&said).into_iter().map(Result::unwrap).collect();
    let [health, plan] = answers.as_slice() else { panic!("{said}") };
    assert_eq!(health["status"], "ok");
    assert_eq!(plan["gap"]["verdict"], "proven", "{plan:#}");

    // `api` is a function of the operator's shell: each of these needs its line too.
    let api = look.lines().find(|line| line.starts_with("api() ")).unwrap();
    let lines: Vec<&str> = shell("/retry\"").lines().collect();
    let [start, status, tables, retry, cancel] = lines.as_slice() else { panic!("{lines:#?}") };
    // Sent twice: one recovery.
    let (started, said, error) = bash(&format!("{api}\n{start}\n{start}")).await;
    assert!(started, "{said}{error}");
    let begun: Vec<Value> =
        serde_json::Deserializer::from_str(&said).into_iter().map(Result::unwrap).collect();
    assert!(begun.len() == 2 && begun[0] == begun[1], "{said}");
    let id = begun[0]["id"].as_str().unwrap();
    app.completed(id).await;
    // What alerts tell progress by.
    assert!(app.said().contains("work item completed") && app.said().contains("recovery ended"));
    let of = async |line: &str| bash(&format!("{api}\n{}", line.replace("<id>", id))).await;
    let (asked, said, error) = of(status).await;
    assert!(asked, "{said}{error}");
    let stands: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&stands["state"], &stands["gap"]["verdict"]),
        (&"completed".into(), &"proven".into())
    );
    let (asked, said, error) = of(tables).await;
    assert!(asked, "{said}{error}");
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["tables"][0]["table"], "t");
    for (line, why) in [(retry, "has not failed"), (cancel, "nothing to cancel")] {
        let (done, said, _) = of(line).await;
        assert!(!done && said.contains(why), "{said}");
    }
    let events: Vec<(String, i32)> = day
        .gap
        .head
        .rows("select op::text, (key ->> 'id')::int from deltacompare.delta")
        .await
        .unwrap();
    assert_eq!(events, [("I".to_owned(), 2)]);
}

tests! {
    what_its_queries_print_proves_the_gap: own_servers,
    without_the_app_the_events_are_in_the_hub: own_servers,
    its_requests_recover_the_gap: own_servers,
}
