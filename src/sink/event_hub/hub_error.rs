//! What keeps events from a hub, as the service says it.

use fe2o3_amqp::connection::ConnectionStopReason;
use fe2o3_amqp::link::{
    DetachError, LinkStateError, SendError, SenderAttachError, SessionStopReason,
};
use fe2o3_amqp::types::definitions::{self, ErrorCondition};
use fe2o3_amqp::types::primitives::Symbol;

/// What is to be done about a [`HubError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The service is throttling: the usual state of a large recovery.
    Busy,
    /// The service does not take messages of this size.
    TooLarge,
    /// There is no such hub, or it is disabled.
    Gone,
    /// The token is not, or no longer, good for this.
    Unauthorized,
    /// The connection string cannot be read or used; the sentence says what to do.
    ConnectionString,
    /// All else, which may pass.
    Transient,
}

/// Why something did not work, in a sentence.
#[derive(Clone, Debug)]
pub(super) struct HubError {
    pub(super) cause: Cause,
    pub(super) sentence: String,
}

impl HubError {
    pub(super) fn transient(sentence: impl Into<String>) -> Self {
        Self { cause: Cause::Transient, sentence: sentence.into() }
    }

    /// What an operator can do.
    pub(super) fn next_step(&self) -> &'static str {
        match self.cause {
            Cause::Busy => {
                "give the namespace more throughput units, or lower --parallel and set \
                 --max-events-per-second"
            }
            Cause::TooLarge => "raise the hub's largest message size, or use --sink delta-table",
            Cause::Gone => "check that the hub exists and is enabled",
            Cause::Unauthorized => {
                "give the identity the role Azure Event Hubs Data Sender on the hub, or use a \
                 connection string of a policy with the right Send"
            }
            Cause::ConnectionString => "it is read again with every try",
            Cause::Transient => "check that the namespace can be reached from here",
        }
    }
}

/// <https://learn.microsoft.com/azure/event-hubs/troubleshooting-guide> and the SDKs' own lists.
impl From<&definitions::Error> for HubError {
    fn from(error: &definitions::Error) -> Self {
        let condition = match &error.condition {
            ErrorCondition::AmqpError(condition) => Symbol::from(condition).0,
            ErrorCondition::ConnectionError(condition) => Symbol::from(condition).0,
            ErrorCondition::SessionError(condition) => Symbol::from(condition).0,
            ErrorCondition::LinkError(condition) => Symbol::from(condition).0,
            ErrorCondition::Custom(condition) => condition.0.clone(),
        };
        let cause = match condition.as_str() {
            "com.microsoft:server-busy" | "amqp:resource-limit-exceeded" => Cause::Busy,
            "amqp:link:message-size-exceeded" => Cause::TooLarge,
            "amqp:not-found" | "com.microsoft:entity-disabled" | "amqp:resource-deleted" => {
                Cause::Gone
            }
            "amqp:unauthorized-access" | "com.microsoft:auth-failed" => Cause::Unauthorized,
            _ => Cause::Transient,
        };
        let sentence = match &error.description {
            Some(description) => format!("{condition}: {}", one_line(description)),
            None => condition,
        };
        Self { cause, sentence }
    }
}

impl From<&LinkStateError> for HubError {
    fn from(error: &LinkStateError) -> Self {
        match error {
            LinkStateError::RemoteDetachedWithError(error)
            | LinkStateError::RemoteClosedWithError(error) => error.into(),
            LinkStateError::SessionStopped(reason) => reason.into(),
            other => Self::transient(other.to_string()),
        }
    }
}

impl From<&SessionStopReason> for HubError {
    fn from(reason: &SessionStopReason) -> Self {
        match reason {
            SessionStopReason::RemoteEndedWithError(error) => error.into(),
            SessionStopReason::ConnectionStopped(ConnectionStopReason::RemoteClosedWithError(
                error,
            )) => error.into(),
            _ => Self::transient("the connection ended"),
        }
    }
}

impl From<SendError> for HubError {
    fn from(error: SendError) -> Self {
        match &error {
            SendError::LinkStateError(error) => error.into(),
            SendError::Detached(
                DetachError::RemoteDetachedWithError(error)
                | DetachError::RemoteClosedWithError(error),
            ) => error.into(),
            SendError::MessageSizeExceeded(_) => {
                Self { cause: Cause::TooLarge, sentence: error.to_string() }
            }
            _ => Self::transient(error.to_string()),
        }
    }
}

impl From<SenderAttachError> for HubError {
    fn from(error: SenderAttachError) -> Self {
        match &error {
            SenderAttachError::RemoteClosedWithError(error) => error.into(),
            SenderAttachError::SessionStopped(reason) => reason.into(),
            _ => Self::transient(format!("the link could not be attached: {error}")),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect()
}
