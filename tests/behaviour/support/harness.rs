//! The harness of these tests: one process for all of them.
//!
//! Each module lists its tests in `tests!`; what is listed nowhere is dead code, which clippy
//! refuses. Words behind a test's name say what it needs:
//! - `own_servers`: it stops servers, changes settings, roles or passwords, cleans up, needs a slot
//!   or more than two restores; or it needs no server at all. All others share one production and
//!   one pair of restores, each in a database of its own (see [`super::Database`]).
//! - `seconds(n)`: how long it may run, without the time that it waits for others; 300 by default.
//! - `in_turn`: never at the same time as another test with this word.
//! - `majors`: also worth running on another version of PostgreSQL.
//! - `browser`, `kills`, `on_demand`: not in the default set.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `DELTACOMPARE_TESTS` | the set: `default`; `major` (those with `majors`); `browser`; `kills` (each kill point); `all` (`default` and `browser`); `on_demand` |
//! | `DELTACOMPARE_TEST_PG_MAJOR` | the version of PostgreSQL, 15 by default |
//! | `DELTACOMPARE_TEST_JOBS` | how many tests are at work at once: three times the cores by default |
//! | `DELTACOMPARE_TEST_SEED`, `DELTACOMPARE_KILL_SECONDS` | see [`crate::functions_kills`] |
//! | `DELTACOMPARE_RANDOM_SEED`, `DELTACOMPARE_RANDOM_CASES` | see [`crate::random_schemas`] |
//!
//! The usual arguments work (a part of a name, `--exact`, `--skip`, `--list`); a test that is
//! named with `--exact` runs whatever its set is.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use deltacompare_testbed::Server;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::world;

/// Lists a module's tests, and in brackets its modules that have tests too.
macro_rules! tests {
    ($([$($child:ident),* $(,)?])? $($name:ident $(: $($word:ident $(($value:expr))?)+)?),* $(,)?) => {
        pub(crate) fn tests() -> Vec<crate::support::Test> {
            #[allow(unused_mut, reason = "a module without modules adds nothing")]
            let mut tests = vec![$(
                crate::support::Test::new(module_path!(), stringify!($name), || Box::pin($name()))
                    $($(.$word($($value)?))+)?
            ),*];
            $($(tests.extend($child::tests());)*)?
            tests
        }
    };
}

/// What a test prints is kept, and shown if it fails.
macro_rules! println {
    ($($arguments:tt)*) => { $crate::support::say(format!($($arguments)*)) };
}

/// The same.
macro_rules! eprintln {
    ($($arguments:tt)*) => { $crate::support::say(format!($($arguments)*)) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Default,
    Browser,
    Kills,
    OnDemand,
}

/// A test and what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    /// As libtest would name it.
    name: String,
    run: fn() -> Pin<Box<dyn Future<Output = ()>>>,
    own_servers: bool,
    in_turn: bool,
    majors: bool,
    limit: Duration,
    set: Set,
}

impl Test {
    pub(crate) fn new(
        module: &'static str,
        name: &'static str,
        run: fn() -> Pin<Box<dyn Future<Output = ()>>>,
    ) -> Self {
        let (_crate, module) = module.split_once("::").unwrap();
        Self {
            name: format!("{module}::{name}"),
            run,
            own_servers: false,
            in_turn: false,
            majors: false,
            limit: Duration::from_secs(300),
            set: Set::Default,
        }
    }

    pub(crate) fn own_servers(self) -> Self {
        Self { own_servers: true, ..self }
    }

    pub(crate) fn in_turn(self) -> Self {
        Self { in_turn: true, ..self }
    }

    pub(crate) fn majors(self) -> Self {
        Self { majors: true, ..self }
    }

    pub(crate) fn seconds(self, limit: u64) -> Self {
        Self { limit: Duration::from_secs(limit), ..self }
    }

    pub(crate) fn browser(self) -> Self {
        Self { set: Set::Browser, ..self }
    }

    pub(crate) fn kills(self) -> Self {
        Self { set: Set::Kills, ..self }
    }

    pub(crate) fn on_demand(self) -> Self {
        Self { set: Set::OnDemand, ..self }
    }

    fn is_in(&self, set: &str) -> bool {
        match set {
            "default" => self.set == Set::Default,
            "all" => matches!(self.set, Set::Default | Set::Browser),
            "major" => self.majors,
            "browser" => self.set == Set::Browser,
            "kills" => self.set == Set::Kills,
            "on_demand" => self.set == Set::OnDemand,
            _ => panic!(
                "DELTACOMPARE_TESTS is {set:?}: use default, all, major, browser, kills or on_demand"
            ),
        }
    }
}

/// How much of its time a test has left. The time does not pass while it waits for others.
#[derive(Debug)]
struct Limit {
    left: Duration,
    runs_since: Option<Instant>,
}

impl Limit {
    fn left(&self) -> Duration {
        self.left.saturating_sub(self.runs_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn pause(&mut self) {
        self.left = self.left();
        self.runs_since = None;
    }

    fn resume(&mut self) {
        self.runs_since.get_or_insert_with(Instant::now);
    }
}

type SharedLimit = Arc<Mutex<Limit>>;

/// The test of this thread: each has a thread and a runtime of its own.
struct Current {
    name: String,
    in_turn: bool,
    limit: SharedLimit,
    permit: Option<SemaphorePermit<'static>>,
    turn: Option<SemaphorePermit<'static>>,
    /// Tells the test's other gaps that wait for a permit that it has one.
    goes_on: Rc<Notify>,
    said: String,
    skipped: Option<String>,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// The tests that run, for the watchdog.
static RUNNING: Mutex<BTreeMap<String, SharedLimit>> = Mutex::new(BTreeMap::new());
static TOOK: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());
static UNFINISHED: AtomicUsize = AtomicUsize::new(0);
static TURN: Semaphore = Semaphore::const_new(1);

/// Bounds how many tests are at work at once. Most of them wait for much of their time, for a
/// program that waits for statistics.
static PERMITS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let jobs = std::env::var("DELTACOMPARE_TEST_JOBS")
        .map_or(cores.max(2) * 3, |text| text.parse().expect("DELTACOMPARE_TEST_JOBS"));
    Semaphore::new(jobs)
});

/// The same for what comes before the restores of all: they do not queue behind the other tests,
/// since they wait for each other.
static PREPARING: Semaphore = Semaphore::const_new(3);

/// Adds a line to what is shown if the test fails.
pub(crate) fn say(line: String) {
    CURRENT.with_borrow_mut(|current| match current {
        Some(current) => current.said += &(line + "\n"),
        // A task of another thread.
        None => std::println!("{line}"),
    });
}

/// Counts the test as skipped once it returns, which it must do next.
pub(crate) fn skip(reason: impl Into<String>) {
    CURRENT.with_borrow_mut(|current| current.as_mut().unwrap().skipped = Some(reason.into()));
}

/// The name of this test.
pub(super) fn name() -> String {
    CURRENT.with_borrow(|current| current.as_ref().unwrap().name.clone())
}

/// Lets others work while this test waits for them. Its time does not pass until [`go_on`].
pub(super) fn stand_by() {
    CURRENT.with_borrow_mut(|current| {
        let current = current.as_mut().unwrap();
        current.limit.lock().unwrap().pause();
        current.permit = None;
    });
}

/// Waits until this test may work. With `last`, it does not stand by any more, and takes its turn.
pub(super) async fn go_on(last: bool) {
    let in_turn = CURRENT.with_borrow(|current| {
        let current = current.as_ref().unwrap();
        current.in_turn && last && current.turn.is_none()
    });
    if in_turn {
        let turn = TURN.acquire().await.unwrap();
        CURRENT.with_borrow_mut(|current| current.as_mut().unwrap().turn = Some(turn));
    }
    let permits = if last { &*PERMITS } else { &PREPARING };
    // Another gap of the same test may be quicker: the test then works, and its time passes.
    let (works, goes_on) = CURRENT.with_borrow(|current| {
        let current = current.as_ref().unwrap();
        (current.permit.is_some(), Rc::clone(&current.goes_on))
    });
    if works {
        return;
    }
    let permit = tokio::select! {
        permit = permits.acquire() => permit.unwrap(),
        () = goes_on.notified() => return,
    };
    CURRENT.with_borrow_mut(|current| {
        let current = current.as_mut().unwrap();
        current.permit = Some(permit);
        current.limit.lock().unwrap().resume();
    });
    goes_on.notify_waiters();
}

/// Runs what the command line and the environment ask for.
pub(crate) fn main(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let set = std::env::var("DELTACOMPARE_TESTS").unwrap_or_else(|_| "default".to_owned());
    let named = arguments.exact && arguments.filter.is_some();
    let mut selected: Vec<Test> = tests
        .into_iter()
        .filter(|test| named || test.is_in(&set))
        .filter(|test| !arguments.is_filtered_out(&Trial::test(&test.name, || Ok(()))))
        .collect();
    // Those that others wait for come first; then long ones, so that none is left alone at the end.
    selected.sort_by_key(|test| (test.own_servers, std::cmp::Reverse(test.limit)));
    if !arguments.list {
        UNFINISHED.store(selected.len(), Ordering::Relaxed);
        let joining: Vec<String> = selected
            .iter()
            .filter(|test| !test.own_servers)
            .map(|test| test.name.clone())
            .collect();
        if !joining.is_empty() {
            world::start(joining);
        }
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            say(format!("panicked at {location}:\n{}", message(panic.payload())));
        }));
        std::thread::spawn(watch);
    }
    // All of them may wait for the others.
    arguments.test_threads = Some(selected.len().max(2));
    let trials = selected
        .into_iter()
        .map(|test| Trial::ignorable_test(test.name.clone(), move || run(&test)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(test: &Test) -> Result<Completion, Failed> {
    let limit = Arc::new(Mutex::new(Limit { left: test.limit, runs_since: None }));
    CURRENT.set(Some(Current {
        name: test.name.clone(),
        in_turn: test.in_turn,
        limit: Arc::clone(&limit),
        permit: None,
        turn: None,
        goes_on: Rc::default(),
        said: String::new(),
        skipped: None,
    }));
    RUNNING.lock().unwrap().insert(test.name.clone(), Arc::clone(&limit));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let within_limit = runtime.block_on(async {
            go_on(test.own_servers).await;
            tokio::select! {
                () = (test.run)() => true,
                () = expired(&limit) => false,
            }
        });
        // Does not wait for a blocking task that hangs.
        runtime.shutdown_timeout(Duration::from_secs(1));
        within_limit
    }));
    if !test.own_servers {
        world::ended(&test.name);
    }
    RUNNING.lock().unwrap().remove(&test.name);
    let took = test.limit.saturating_sub(limit.lock().unwrap().left());
    TOOK.lock().unwrap().push((took, test.name.clone()));
    let current = CURRENT.take().unwrap();
    if UNFINISHED.fetch_sub(1, Ordering::Relaxed) == 1 {
        summarize();
    }
    let failure = match (ended, current.skipped) {
        (Ok(true), None) => return Ok(Completion::Completed),
        (Ok(true), Some(reason)) => return Ok(Completion::ignored_with(reason)),
        (Ok(false), _) => format!("it did not end within {} seconds", test.limit.as_secs()),
        (Err(_), _) => String::new(),
    };
    // At once, since a run takes minutes.
    std::println!("---- {} ----\n{}{failure}\n", test.name, current.said);
    Err(Failed::without_message())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

async fn expired(limit: &SharedLimit) {
    loop {
        let left = limit.lock().unwrap().left();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
    }
}

/// Ends the process if a test keeps its thread busy or blocked past its limit: nothing else ends it.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(5));
        for (name, limit) in &*RUNNING.lock().unwrap() {
            let limit = limit.lock().unwrap();
            let runs = limit.runs_since.map_or(Duration::ZERO, |since| since.elapsed());
            if runs > limit.left + Duration::from_secs(60) {
                std::println!("{name} blocks its thread a minute past its limit: giving up");
                std::process::exit(101);
            }
        }
    }
}

/// The slowest tests, and how many servers there were.
fn summarize() {
    let mut took = TOOK.lock().unwrap();
    took.sort_by(|a, b| b.cmp(a));
    let sum: Duration = took.iter().map(|(took, _)| *took).sum();
    std::println!(
        "\n{} servers started, {} seconds of tests; the slowest:",
        Server::launched(),
        sum.as_secs()
    );
    for (took, name) in took.iter().take(20) {
        std::println!("{:6.1} s {name}", took.as_secs_f64());
    }
    std::println!();
}
