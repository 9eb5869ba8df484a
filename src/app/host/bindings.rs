//! What the app's functions are called and what starts them. `functions/<Name>/function.json` says
//! the same to the Functions host; `tests/behaviour/functions_package.rs` compares the two.

/// The prefix of the app settings that say where the queues are.
pub const QUEUE_CONNECTION: &str = "DELTACOMPARE_QUEUES";

/// The queue of recoveries to be planned.
pub const PLAN_QUEUE: &str = "recovery-plan";

/// The queue of work items.
pub const WORK_QUEUE: &str = "recovery-work";

/// Where the host moves what failed too often: the queue's name with this at its end.
pub const POISON: &str = "-poison";

/// The name under which a queue's message comes in an invocation's `Data`.
pub const MESSAGE: &str = "message";

/// One function of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// The name of its folder, and its path for invocations that are not HTTP.
    pub name: &'static str,
    /// What starts it.
    pub trigger: Trigger,
}

/// What starts a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A request to `/api/<route>`.
    Http {
        /// Its methods, in lower case; with `get` also `head`, where something may probe.
        methods: &'static [&'static str],
        /// The route below `/api`.
        route: &'static str,
        /// Whether the caller needs a function key.
        key: bool,
    },
    /// A message of this queue.
    Queue(&'static str),
    /// The clock, by this NCRONTAB expression.
    Timer(&'static str),
}

/// All functions of the app.
pub const FUNCTIONS: &[Function] = &[
    http("StartRecovery", &["post"], "recoveries"),
    http("ListRecoveries", &["get"], "recoveries"),
    http("GetRecovery", &["get"], "recoveries/{id}"),
    http("ListTables", &["get"], "recoveries/{id}/tables"),
    http("CancelRecovery", &["post"], "recoveries/{id}/cancel"),
    http("RetryRecovery", &["post"], "recoveries/{id}/retry"),
    http("Plan", &["post"], "plan"),
    http("GetPlan", &["get"], "plan/{id}"),
    http("OpenApi", &["get"], "openapi.json"),
    open("Health", "health"),
    // A page without data; what it shows, it asks the functions above for, with the operator's key.
    open("ShowDashboard", "dashboard"),
    open("ShowRecovery", "dashboard/{id}"),
    Function { name: "PlanRecovery", trigger: Trigger::Queue(PLAN_QUEUE) },
    Function { name: "DiffTable", trigger: Trigger::Queue(WORK_QUEUE) },
    Function { name: "FailPlan", trigger: Trigger::Queue("recovery-plan-poison") },
    Function { name: "FailWorkItem", trigger: Trigger::Queue("recovery-work-poison") },
    Function { name: "Watchdog", trigger: Trigger::Timer("*/30 * * * * *") },
];

const fn open(name: &'static str, route: &'static str) -> Function {
    Function { name, trigger: Trigger::Http { methods: &["get", "head"], route, key: false } }
}

const fn http(
    name: &'static str,
    methods: &'static [&'static str],
    route: &'static str,
) -> Function {
    Function { name, trigger: Trigger::Http { methods, route, key: true } }
}
