//! Timer functions: one instance runs them, however many there are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::instance::Instance;
use super::{Shared, payload};

/// When a timer function runs: every so many seconds, counted from the hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    seconds: i64,
}

impl Schedule {
    /// Of the NCRONTAB expressions only `*/n * * * * *` and `0 */n * * * *` are known here.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let seconds = match text.split_whitespace().collect::<Vec<_>>()[..] {
            [every, "*", "*", "*", "*", "*"] => step(every),
            ["0", every, "*", "*", "*", "*"] => step(every).map(|minutes| minutes * 60),
            _ => None,
        };
        let seconds = seconds.with_context(|| format!("the schedule {text} is not known here"))?;
        Ok(Self { seconds })
    }

    /// The first tick after this instant, in seconds since 1970.
    fn next(self, after: i64) -> i64 {
        let hour = after - after.rem_euclid(3600);
        let tick = hour + ((after - hour) / self.seconds + 1) * self.seconds;
        tick.min(hour + 3600)
    }
}

fn step(text: &str) -> Option<i64> {
    let step = text.strip_prefix("*/")?.parse().ok()?;
    (1..=59).contains(&step).then_some(step)
}

/// The lock on a timer function, which one instance has.
#[derive(Default)]
struct Lock {
    holder: Option<Arc<Instance>>,
    /// When the lease of a holder that is gone runs out.
    free_at: Option<Instant>,
}

impl Lock {
    /// The instance that has the lock now. One whose holder is gone is free when its lease has run
    /// out, and goes to the instance that looks for it next.
    fn holder(&mut self, host: &Shared) -> Option<Arc<Instance>> {
        if let Some(holder) = self.holder.as_ref().filter(|holder| holder.is_open()) {
            return Some(Arc::clone(holder));
        }
        let now = Instant::now();
        if self.holder.take().is_some() {
            self.free_at = Some(now + host.timer_lease);
        }
        let taken = host.open().into_iter().find(|instance| {
            self.free_at.is_none_or(|free| last_look(instance.since, now, host.timer_look) >= free)
        })?;
        self.holder = Some(Arc::clone(&taken));
        Some(taken)
    }
}

/// When an instance last looked whether the lock is free: at its start, and each `every` from then on.
fn last_look(since: Instant, now: Instant, every: Duration) -> Instant {
    let passed = now.duration_since(since).as_secs_f64();
    since + every.mul_f64((passed / every.as_secs_f64()).floor())
}

/// Runs a timer function until the host ends. A tick that comes while the last one is at work, or
/// while nobody has the lock, is left out.
pub(super) async fn run(host: Arc<Shared>, function: String, binding: String, schedule: Schedule) {
    let mut lock = Lock::default();
    loop {
        let now = Timestamp::now();
        let tick = schedule.next(now.as_second());
        let wait = Timestamp::from_second(tick).unwrap_or(now).duration_since(now);
        tokio::time::sleep(wait.try_into().unwrap_or(Duration::from_secs(1))).await;
        let Some(instance) = lock.holder(&host) else { continue };
        let body = payload::of_tick(&function, &binding);
        instance.invoke(&function, &body).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Schedule;

    #[test]
    fn ticks_are_counted_from_the_hour() {
        let half_minutes = Schedule::parse("*/30 * * * * *").unwrap();
        assert_eq!(half_minutes.next(7200), 7230);
        assert_eq!(half_minutes.next(7229), 7230);
        assert_eq!(half_minutes.next(7230), 7260);
        let minutes = Schedule::parse("0 */7 * * * *").unwrap();
        assert_eq!(minutes.next(7200), 7200 + 420);
        assert_eq!(minutes.next(7200 + 56 * 60), 10_800);
        Schedule::parse("0 0 3 * * *").unwrap_err();
        Schedule::parse("*/0 * * * * *").unwrap_err();
    }
}
