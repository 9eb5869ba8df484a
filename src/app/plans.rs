//! Plans that this process makes, each once however many ask for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tokio::task::AbortHandle;
use tracing::Instrument;
use uuid::Uuid;

use crate::error::Result;
use crate::recovery::{RENEW_PLAN_EVERY, Store};

/// Plans that one process makes at once: each has two sessions on either server.
const MOST_PLANS: usize = 4;

/// How often it is tried to store an answer, a second between two tries.
const STORE_ATTEMPTS: u32 = 5;

/// The answer to a request for a plan, as HTTP has it.
#[derive(Clone, Debug)]
pub(super) struct PlanAnswer {
    /// 200 with the plan; any other with why there is none.
    pub(super) status: u16,
    pub(super) text: Arc<str>,
}

/// The plans that are being made.
#[derive(Debug, Default)]
pub(super) struct Plans(Mutex<HashMap<Uuid, Arc<PlanInProgress>>>);

/// A plan that is being made.
#[derive(Debug)]
pub(super) struct PlanInProgress {
    answer: watch::Receiver<Option<PlanAnswer>>,
    task: AbortHandle,
    /// Whether this process is known to make it, once that was stored.
    stored: OnceCell<bool>,
}

impl Plans {
    /// The plan of this id while it is being made.
    pub(super) fn in_progress(&self, id: Uuid) -> Option<Arc<PlanInProgress>> {
        let plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plans.get(&id).filter(|plan| plan.is_in_progress()).cloned()
    }

    /// The same; begins it if nobody has. `None` if too many others are being made.
    pub(super) fn join<F>(&self, id: Uuid, make: impl FnOnce() -> F) -> Option<Arc<PlanInProgress>>
    where
        F: Future<Output = PlanAnswer> + Send + 'static,
    {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|_, plan| plan.is_in_progress());
        if let Some(plan) = plans.get(&id) {
            return Some(Arc::clone(plan));
        }
        if plans.len() >= MOST_PLANS {
            return None;
        }
        let (tell, answer) = watch::channel(None);
        let making = make();
        let task = tokio::spawn(
            async move {
                tell.send_replace(Some(making.await));
            }
            .in_current_span(),
        );
        let task = task.abort_handle();
        let plan = Arc::new(PlanInProgress { answer, task, stored: OnceCell::new() });
        plans.insert(id, Arc::clone(&plan));
        Some(plan)
    }
}

impl PlanInProgress {
    fn is_in_progress(&self) -> bool {
        !self.task.is_finished()
    }

    /// The answer, if it comes within this time. `None` too if it will never come.
    pub(super) async fn within(&self, time: Duration) -> Option<PlanAnswer> {
        let mut answer = self.answer.clone();
        let made = tokio::time::timeout(time, answer.wait_for(Option::is_some)).await;
        made.ok()?.ok()?.clone()
    }

    /// Stores that this process makes it, so that every process can answer for it, and keeps that up
    /// to date until the answer is stored too. Yields false, and ends it here, if another process makes
    /// it.
    ///
    /// # Errors
    /// The status store cannot be asked.
    pub(super) async fn store(
        self: &Arc<Self>,
        store: &Store,
        id: Uuid,
        body: &str,
    ) -> Result<bool> {
        let ours = self.stored.get_or_try_init(async || {
            let ours = store.begin_plan(id, body).await?;
            if ours {
                let (plan, store) = (Arc::clone(self), store.clone());
                tokio::spawn(async move { plan.keep_stored(&store, id).await });
            } else {
                self.task.abort();
            }
            Ok::<_, crate::error::Error>(ours)
        });
        ours.await.copied()
    }

    async fn keep_stored(&self, store: &Store, id: Uuid) {
        let mut left = STORE_ATTEMPTS;
        while left > 0 {
            let kept = match self.within(RENEW_PLAN_EVERY).await {
                Some(PlanAnswer { status, text }) => {
                    left -= 1;
                    match store.end_plan(id, status, &text).await {
                        Ok(()) => return,
                        Err(error) => Err(error),
                    }
                }
                // It broke off: whoever asks next begins it again.
                None if !self.is_in_progress() && self.answer.borrow().is_none() => return,
                None => store.renew_plan(id).await,
            };
            if let Err(error) = kept {
                tracing::warn!(plan = %id, %error, "how a plan stands could not be stored");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
