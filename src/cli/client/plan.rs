//! The plan that the app makes, also where it takes longer than a request may.

use std::time::Duration;

use deltacompare::error::Result;
use deltacompare::model::PlanPending;
use serde_json::Value;

use super::app::AppClient;
use super::read;

impl AppClient {
    /// The plan of a request. Waits until the app has made it.
    ///
    /// # Errors
    /// As [`AppClient::get`].
    pub(super) async fn plan(&mut self, body: &Value) -> Result<Value> {
        let mut answer = self.post("/plan", body).await?;
        while answer.get("plan_id").is_some() {
            let PlanPending { plan_id, retry_after_seconds } = read(answer)?;
            tokio::time::sleep(Duration::from_secs(retry_after_seconds.clamp(1, 60))).await;
            answer = self.get(&format!("/plan/{plan_id}")).await?;
        }
        Ok(answer)
    }
}
