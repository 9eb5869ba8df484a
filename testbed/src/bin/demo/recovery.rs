//! The second half of the story: what downstream missed is recovered and proved.

use anyhow::{Context, Result};
use deltacompare_testbed::{Role, Server};
use serde_json::{Value, json};

use crate::app::{self, App};
use crate::event::Events;
use crate::gap::Gap;
use crate::narrator::{Narrator, count};
use crate::program::{self, Program};
use crate::{proof, shop, tally};

/// The two restores, and what is done with them.
pub(crate) struct Recovery<'s> {
    narrator: &'s Narrator,
    program: &'s Program,
    gap: &'s Gap,
    base: Server,
    head: Server,
}

impl<'s> Recovery<'s> {
    /// Restores production to both ends of the gap.
    pub(crate) async fn between(
        narrator: &'s Narrator,
        program: &'s Program,
        gap: &'s Gap,
    ) -> Result<Self> {
        narrator.chapter("Two point-in-time restores");
        let both = async {
            tokio::try_join!(gap.production.restore(&gap.lost), gap.production.restore(&gap.back))
        };
        let (base, head) = narrator.timed("restoring from the backup and the WAL …", both).await?;
        // Before anything else happens on them.
        program.run(narrator, &base, &head, &program.record_arguments()).await?;
        // What an administrator does on Azure by adding POSTGRES_FDW to azure.extensions.
        head.allow_postgres_fdw().await?;
        narrator.say(&format!(
            "base is production when the slot was lost, on port {}; head is production when it was \
             back, on port {}. Production itself is not touched any more.",
            base.port(),
            head.port()
        ));
        Ok(Self { narrator, program, gap, base, head })
    }

    async fn deltacompare(&self, arguments: &[String]) -> Result<()> {
        self.program.run(self.narrator, &self.base, &self.head, arguments).await
    }

    /// `plan`, on the command line.
    pub(crate) async fn plan(&self) -> Result<()> {
        self.narrator.chapter("DeltaCompare: what would be compared?");
        self.narrator.say(&format!(
            "As {}, who is no superuser and has what a server administrator has on Azure:",
            Role::Admin.name()
        ));
        for (name, value) in program::environment(&self.base, &self.head) {
            self.narrator.command(&format!("export {name}='{value}'"));
        }
        self.narrator.command("export DELTACOMPARE_BASE_PASSWORD=… DELTACOMPARE_HEAD_PASSWORD=…");
        self.deltacompare(&self.program.plan_arguments(self.gap)).await
    }

    /// The recovery, in the app; its status in the end, and the app, which still answers.
    pub(crate) async fn run(&self) -> Result<(Value, App)> {
        let Self { narrator, program, gap, base, head } = self;
        narrator.chapter("The app recovers it");
        let app = App::start(program, base, head).await?;
        narrator.say(&format!(
            "The app as it is deployed, {} instances of it, under a stand-in for the Azure \
             Functions host with Azurite's queues, at {}:",
            app::INSTANCES,
            app.url()
        ));
        let mut body = json!({"sinks": ["delta-table"], "format": "landing", "verify": "sample"});
        gap.say_slots(&mut body);
        narrator.command(&format!(
            "curl -d '{}' {}/api/recoveries",
            body.to_string().replacen('{', "{\"recorded\":<recorded.json>,", 1),
            app.url()
        ));
        body["recorded"] = program.record()?;
        let location = app.begin(&body).await?;
        narrator.say("Its dashboard, and the key that it asks for:");
        narrator.quote(&dashboard(&app, &location));
        narrator.quote(app.key());
        let recovery = async {
            let status = app.completed(&location).await?;
            anyhow::Ok(status)
        };
        let status = narrator.timed("planning, fan-out over the queue, proof …", recovery).await?;
        narrator.command(&format!("curl {}{location}", app.url()));
        for field in ["state", "gap", "totals", "rows_compared", "items", "tables"] {
            narrator.say(&format!("{field}: {}", status[field]));
        }
        std::fs::write(program.status_file(), format!("{status:#}\n"))?;
        Ok((status, app))
    }

    /// Leaves the app and the servers as they are until Ctrl-C.
    pub(crate) async fn keep(&self, status: &Value, app: &App) -> Result<()> {
        let id = status["id"].as_str().context("a status without id")?;
        self.narrator.chapter("Have a look");
        self.narrator
            .say("The app and the three servers stay until Ctrl-C. The dashboard, and its key:");
        self.narrator.quote(&dashboard(app, id));
        self.narrator.quote(app.key());
        for (name, value) in program::environment(&self.base, &self.head) {
            self.narrator.command(&format!("export {name}='{value}'"));
        }
        tokio::signal::ctrl_c().await?;
        Ok(())
    }

    pub(crate) async fn compare_with_what_was_lost(&self, status: &Value) -> Result<Events> {
        let Self { narrator, program, gap, .. } = self;
        narrator.chapter("What was lost, what was recovered");
        let id = status["id"].as_str().context("a status without id")?;
        let events = Events::take(&self.head, id, &program.events_file()).await?;
        tally::print(shop::TABLES.iter().map(|table| table.name), &gap.missed, &events.tally());
        narrator.say(
            "Fewer events than changes, since they carry the net change: one event for a row that \
             changed twice, none for a row that was rewritten as it was, or came and went within \
             the gap. A row whose key changed takes two: a delete and an insert.",
        );
        let (base_end, head_end) = gap.covered_by(status)?;
        narrator.say(&format!(
            "Nothing fell in between: base ends at LSN {base_end}, not after {}, which the lost \
             slot had delivered; head ends at {head_end}, not before {}, where the new slot begins.",
            gap.confirmed, gap.consistent
        ));
        Ok(events)
    }

    pub(crate) async fn prove(&self, events: &Events) -> Result<()> {
        let Self { narrator, base, head, .. } = self;
        narrator.chapter("The proof: base, with the events applied, is head");
        narrator.say(
            "This check shares no code with DeltaCompare. It reads every row of both servers as \
             COPY prints it, applies the events of the delta table to base's rows, and compares the \
             outcome with head's rows, byte for byte.",
        );
        for table in &shop::TABLES {
            let check = proof::check(base, head, table, events.of(table));
            let name = format!("{:<16}", table.name);
            narrator.timed_with(&name, check, ToString::to_string).await?;
        }
        proof::check_that_it_can_fail(base, head, events).await?;
        narrator.say("With one event left out the same check fails, as it must.");
        narrator.good("Proved: apply(base, events) == head, for every table.");
        Ok(())
    }

    pub(crate) fn show(&self, events: &Events) -> Result<()> {
        let Self { narrator, program, .. } = self;
        narrator.chapter("The events");
        for op in ["I", "U", "D"] {
            let sample = events.sample(op).with_context(|| format!("there is no event {op}"))?;
            narrator.quote(sample);
        }
        let (all, file) = (count(events.len()), program.events_file());
        narrator.say(&format!("All {all} events: {}", file.display()));
        narrator.say(&format!("The status: {}", program.status_file().display()));
        Ok(())
    }

    pub(crate) async fn tidy(&self) -> Result<()> {
        self.narrator.chapter("Nothing stays behind");
        self.deltacompare(&["cleanup".to_owned(), "--yes".to_owned()]).await?;
        self.narrator.say("The three servers end now, and their folder is removed.");
        Ok(())
    }
}

/// Where a recovery, given by its id or its status' place, can be watched.
fn dashboard(app: &App, recovery: &str) -> String {
    let id = recovery.rsplit('/').next().unwrap_or(recovery);
    format!("{}/api/dashboard/{id}", app.url())
}
