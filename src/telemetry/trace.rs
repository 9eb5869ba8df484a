//! Where a trace comes from and goes to: the W3C trace context.
//! <https://www.w3.org/TR/trace-context/>

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// A place in a trace that somebody else began.
#[derive(Clone, Debug)]
pub(crate) struct ParentTrace(Context);

impl ParentTrace {
    /// What `traceparent` and `tracestate` say; `None` where they say nothing that can be read.
    pub(crate) fn read(parent: Option<&str>, state: Option<&str>) -> Option<Self> {
        let mut carrier = HashMap::from([(PARENT.to_owned(), parent?.to_owned())]);
        carrier.extend(state.map(|state| (STATE.to_owned(), state.to_owned())));
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        context.span().span_context().is_valid().then_some(Self(context))
    }

    /// What the program was started with, as `TRACEPARENT` in its environment.
    pub(crate) fn of_environment() -> Option<Self> {
        let read = |name: &str| std::env::var(name).ok();
        Self::read(read("TRACEPARENT").as_deref(), read("TRACESTATE").as_deref())
    }

    /// Makes a span that was not entered yet a part of this trace.
    pub(crate) fn adopt(self, span: &Span) {
        // It fails where no traces are sent.
        let _ = span.set_parent(self.0);
    }

    /// Whether who began the trace has it sent.
    pub(crate) fn is_sampled(&self) -> bool {
        self.0.span().span_context().is_sampled()
    }

    /// Notes that a span has to do with this trace, of which it is no part.
    pub(crate) fn link(&self, span: &Span) {
        span.add_link(self.0.span().span_context().clone());
    }
}

/// The current span as a `traceparent`, for a message; `None` where no traces are sent.
pub(crate) fn current() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(PARENT)
}

/// Marks the current span as one that failed. The reason stands in the log.
pub(crate) fn failed() {
    Span::current().set_status(Status::error(""));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_context_is_read() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(ParentTrace::read(Some(good), None).is_some());
        assert!(ParentTrace::read(Some(good), Some("a=b")).is_some());
        for bad in ["", "x", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(ParentTrace::read(Some(bad), None).is_none(), "{bad}");
        }
        assert!(ParentTrace::read(None, Some("a=b")).is_none());
    }
}
