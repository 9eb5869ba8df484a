//! Follows a recovery: a bar on a terminal, a line now and then elsewhere, documents for scripts.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use deltacompare::error::{ErrorKind, Result};
use deltacompare::model::{RecoveryState, RecoveryStatus};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use uuid::Uuid;

use super::app::AppClient;
use super::output;
use super::read;
use crate::cli::{COMPLETED, FAILED, INTERRUPTED, stop_signal};

/// How often the app is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How often a line is written where there is no terminal, if something has changed.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// An app that restarts, or a network that is gone, is waited for this long.
const UNREACHABLE_AT_MOST: Duration = Duration::from_secs(300);

/// Yields the exit code: 0 if it completed, 1 if it did not, 130 if the operator has seen enough.
///
/// # Errors
/// Refused by the app, or it does not answer for [`UNREACHABLE_AT_MOST`].
pub(super) async fn until_it_has_ended(app: &mut AppClient, id: Uuid, json: bool) -> Result<u8> {
    tokio::select! {
        ended = follow(app, id, json) => ended,
        () = stop_signal() => {
            eprintln!("the recovery goes on; follow it again with\n  deltacompare watch {id}");
            Ok(INTERRUPTED)
        }
    }
}

async fn follow(app: &mut AppClient, id: Uuid, json: bool) -> Result<u8> {
    let mut shown = Shown::new(json);
    let mut answered = Instant::now();
    let path = format!("/recoveries/{id}");
    let last = loop {
        match app.get(&path).await {
            Ok(document) => {
                answered = Instant::now();
                let status: RecoveryStatus = read(document.clone())?;
                shown.show(&document, &status);
                if status.summary.state.is_end() {
                    break (document, status);
                }
            }
            Err(error)
                if error.kind() == ErrorKind::Transient
                    && answered.elapsed() < UNREACHABLE_AT_MOST =>
            {
                shown.say(&format!("{error}; asking again"));
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(EVERY).await;
    };
    shown.bar.finish_and_clear();
    let (document, status) = last;
    if !json {
        output::tables(app.pages(&format!("{path}/tables"), "tables").await?, false)?;
        output::status(document, false)?;
    }
    if status.tables.failed > 0 {
        eprintln!("mend what failed, then: deltacompare retry {id}");
    }
    Ok(if status.summary.state == RecoveryState::Completed { COMPLETED } else { FAILED })
}

/// What was shown so far.
struct Shown {
    json: bool,
    bar: ProgressBar,
    last: Option<(String, Instant)>,
    document: Value,
}

impl Shown {
    fn new(json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !json;
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1000), target);
        if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {percent:>3} %  {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { json, bar, last: None, document: Value::Null }
    }

    fn show(&mut self, document: &Value, status: &RecoveryStatus) {
        if self.json {
            if *document != self.document {
                output::json(document);
                self.document = document.clone();
            }
            return;
        }
        self.bar.set_position((status.progress.clamp(0.0, 1.0) * 1000.0) as u64);
        let line = format!("{}: {}", status.summary.state.as_str(), output::line(status));
        self.bar.set_message(line.clone());
        let due = match &self.last {
            None => true,
            Some((before, at)) => *before != line && at.elapsed() >= LINE_EVERY,
        };
        if self.bar.is_hidden() && due {
            eprintln!("{:.0} %, {line}", (status.progress * 100.0).floor());
            self.last = Some((line, Instant::now()));
        }
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}
