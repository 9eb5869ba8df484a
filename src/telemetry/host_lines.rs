//! The log as the Functions host wants it: one JSON object a line.
//!
//! The host takes what is on standard output for information, and what is on standard error for an
//! error, or for a warning if the line has `warn` in it, in any case. So warnings and errors go to
//! standard error, and an error that speaks of a warning is written so that only a reader of JSON sees
//! that it does. Lines of the console have no operation of Application Insights: each has the id of the
//! invocation instead.

use std::fmt;
use std::io::{self, Write};

use tracing::{Event, Level, Metadata, Span, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// The target of the spans that say which invocation a line belongs to. They are no part of a trace.
pub(super) const INVOCATION: &str = "deltacompare::invocation";

/// The span of an invocation: each line that is written within it has the invocation's id.
pub(crate) fn invocation(id: &str) -> Span {
    tracing::info_span!(target: INVOCATION, "invocation", invocation = id)
}

/// Writes each line where its level belongs.
#[derive(Debug)]
pub(super) struct HostLines;

/// One line of this level.
#[derive(Debug)]
pub(super) struct HostLine(Level);

impl<'a> MakeWriter<'a> for HostLines {
    type Writer = HostLine;

    fn make_writer(&'a self) -> HostLine {
        HostLine(Level::INFO)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> HostLine {
        HostLine(*metadata.level())
    }
}

impl Write for HostLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A host that is gone reads nothing any more, which is no reason to stop.
        let _ = match self.0 {
            Level::ERROR => io::stderr().write_all(&without_warn(line)),
            Level::WARN => io::stderr().write_all(line),
            _ => io::stdout().write_all(line),
        };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same JSON, without the letters `warn` one after the other.
fn without_warn(line: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(line.len());
    for (at, &byte) in line.iter().enumerate() {
        let within =
            at > 0 && line.get(at - 1..at + 3).is_some_and(|it| it.eq_ignore_ascii_case(b"warn"));
        match within {
            true => written.extend(format!("\\u00{byte:02x}").bytes()),
            false => written.push(byte),
        }
    }
    written
}

/// JSON that has the fields of the [invocation](invocation) in front.
#[derive(Debug)]
pub(super) struct WithInvocation(pub(super) Format<Json>);

impl<S, N> FormatEvent<S, N> for WithInvocation
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    Format<Json>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let invocation = context
            .event_scope()
            .and_then(|mut scope| scope.find(|span| span.metadata().target() == INVOCATION))
            .and_then(|span| {
                let extensions = span.extensions();
                let fields = &extensions.get::<FormattedFields<N>>()?.fields;
                Some(fields.strip_prefix('{')?.strip_suffix('}')?.to_owned())
            });
        match (invocation, line.strip_prefix('{')) {
            (Some(invocation), Some(rest)) => write!(writer, "{{{invocation},{rest}"),
            _ => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_speaks_of_a_warning_is_no_warning_to_the_host() {
        for text in ["a warning", "Warn: WARNING", "\\warn", "war", "warwarn", "no"] {
            let line = serde_json::json!({ "message": text }).to_string();
            let written = String::from_utf8(without_warn(line.as_bytes())).unwrap();
            assert!(!written.to_lowercase().contains("warn"), "{written}");
            let read: serde_json::Value = serde_json::from_str(&written).unwrap();
            assert_eq!(read["message"], text);
        }
    }
}
