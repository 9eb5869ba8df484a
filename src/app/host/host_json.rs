//! What the handler needs to know of the app's host.json.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};

/// What Flex Consumption gives an invocation if host.json does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostJson {
    function_timeout: Option<String>,
}

/// How long the host lets an invocation run: `functionTimeout` of the host.json in this folder,
/// which is the app's. `None` means for ever.
///
/// # Errors
/// Refused if there is a host.json that cannot be read.
pub(in crate::app) fn function_timeout(folder: &Path) -> Result<Option<Duration>> {
    let path = folder.join("host.json");
    let unreadable = |why: &str| {
        Error::refused(format!(
            "{} cannot be used: {why}; functionTimeout must look like 01:00:00",
            path.display()
        ))
    };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(DEFAULT_TIMEOUT));
        }
        Err(error) => return Err(unreadable(&error.to_string())),
    };
    let host: HostJson =
        serde_json::from_slice(&text).map_err(|error| unreadable(&error.to_string()))?;
    match host.function_timeout.as_deref() {
        None => Ok(Some(DEFAULT_TIMEOUT)),
        Some("-1" | "-00:00:01") => Ok(None),
        Some(text) => time_span(text).map(Some).ok_or_else(|| unreadable("of functionTimeout")),
    }
}

/// .NET's `[d.]hh:mm:ss`.
fn time_span(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('.') {
        Some((days, clock)) if !days.contains(':') => (days.parse::<u64>().ok()?, clock),
        _ => (0, text),
    };
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = parts[..] else { return None };
    Some(Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds))
        .filter(|span| !span.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_as_dotnet_writes_them() {
        for (text, seconds) in [("00:05:00", 300), ("01:00:00", 3600), ("1.00:00:01", 86_401)] {
            assert_eq!(time_span(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "5:00", "00:00:00", "a:b:c", "-01:00:00"] {
            assert_eq!(time_span(text), None, "{text}");
        }
    }
}
