//! One production and one pair of restores for all tests that need no servers of their own.
//!
//! Each gap is a database. All that happens before gaps happens side by side, then production is
//! backed up; the gaps happen side by side, then production is restored to the moments before and
//! after them. Who fails on the way does not keep the others from going on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use deltacompare_testbed::{Options, Postgres, Production, Server};
use tokio::sync::{Notify, watch};

use super::harness;

/// Where the common production is in its history.
#[derive(Clone, Debug)]
enum Phase {
    Starting,
    /// What happens before the gaps.
    Before(Arc<Production>),
    /// The gaps.
    During,
    /// Base and head.
    Restored(Server, Server),
    Failed(String),
}

/// How far a gap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Before,
    /// All that comes before the gap is there.
    Ready,
    During,
    /// It happened, or never will.
    Done,
}

#[derive(Debug)]
struct World {
    /// Tests that have no gap yet and may have one.
    expected: Mutex<BTreeSet<String>>,
    /// By the number of its database.
    gaps: Mutex<BTreeMap<usize, Progress>>,
    changed: Notify,
    phase: watch::Sender<Phase>,
    /// Databases are created one after the other.
    creating: tokio::sync::Mutex<()>,
}

static WORLD: OnceLock<World> = OnceLock::new();

/// Begins with the common production, for these tests.
pub(super) fn start(tests: Vec<String>) {
    let world = World {
        expected: Mutex::new(tests.into_iter().collect()),
        gaps: Mutex::default(),
        changed: Notify::new(),
        phase: watch::Sender::new(Phase::Starting),
        creating: tokio::sync::Mutex::default(),
    };
    WORLD.set(world).unwrap();
    let world = WORLD.get().unwrap();
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Err(error) = runtime.block_on(world.happen()) {
            world.phase.send_replace(Phase::Failed(format!("{error:#}")));
        }
    });
}

/// A test that will have no gap any more.
pub(super) fn ended(test: &str) {
    let world = WORLD.get().unwrap();
    lock(&world.expected).remove(test);
    world.changed.notify_one();
}

/// What many databases on one server need.
fn options() -> Options {
    let conf = [
        "max_connections = 300",
        "shared_buffers = '256MB'",
        // The folders lie in memory, as a rule.
        "max_wal_size = '256MB'",
        // The servers live longer than those of one test: what autovacuum does would depend on time.
        "autovacuum = off",
    ];
    Options {
        conf: conf.map(str::to_owned).to_vec(),
        wal_segment_mb: 16,
        space_gib: 12,
        ..Options::default()
    }
}

impl World {
    async fn happen(&self) -> anyhow::Result<()> {
        let production = Arc::new(Production::start(&Postgres::find(None)?, options()).await?);
        production.share();
        self.phase.send_replace(Phase::Before(Arc::clone(&production)));
        self.until(|| lock(&self.expected).is_empty() && self.none_is(&[Progress::Before])).await;
        if lock(&self.gaps).is_empty() {
            return Ok(());
        }
        production.base_backup().await?;
        let lost = production.restore_point("lost").await?;
        self.phase.send_replace(Phase::During);
        self.until(|| self.none_is(&[Progress::Ready, Progress::During])).await;
        let back = production.restore_point("back").await?;
        let (base, head) = tokio::try_join!(production.restore(&lost), production.restore(&back))?;
        base.share();
        head.share();
        self.phase.send_replace(Phase::Restored(base, head));
        Ok(())
    }

    fn none_is(&self, progress: &[Progress]) -> bool {
        !lock(&self.gaps).values().any(|gap| progress.contains(gap))
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        while !holds() {
            self.changed.notified().await;
        }
    }

    /// Waits for a phase, and yields what this makes of it.
    async fn wait<T>(&self, wanted: impl Fn(&Phase) -> Option<T>) -> T {
        let mut phases = self.phase.subscribe();
        loop {
            let phase = phases.borrow_and_update().clone();
            if let Phase::Failed(error) = phase {
                panic!("the common production: {error}");
            }
            if let Some(found) = wanted(&phase) {
                return found;
            }
            phases.changed().await.unwrap();
        }
    }
}

/// A test that panics with this in hand leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new database in the common production, for one gap. Dereferences to the server in it.
///
/// A test that has several gaps makes them at the same time: all databases must be there before the
/// first gap begins. Names of roles, slots and tablespaces are common to all databases.
#[derive(Debug)]
pub(crate) struct Database {
    production: Server,
    number: usize,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let world = WORLD.get().expect("this test is listed with `own_servers`");
        let test = harness::name();
        let late = !matches!(*world.phase.borrow(), Phase::Starting | Phase::Before(_));
        assert!(!late, "a test makes all its gaps at once, or it needs `own_servers`");
        let number = {
            let mut gaps = lock(&world.gaps);
            let number = gaps.last_key_value().map_or(1, |(last, _)| last + 1);
            gaps.insert(number, Progress::Before);
            number
        };
        lock(&world.expected).remove(&test);
        // From here on a failure withdraws the gap.
        let mut withdrawn = Withdraw(Some(number));
        let production = world
            .wait(|phase| match phase {
                Phase::Before(production) => Some(Arc::clone(production)),
                _ => None,
            })
            .await;
        let name = format!("shop{number}");
        {
            let _one_at_a_time = world.creating.lock().await;
            production.create_database(&name).await.unwrap();
        }
        withdrawn.0 = None;
        Self { production: production.in_database(&name), number }
    }

    /// Waits for the others, lets the gap happen, and waits for the restores: base and head.
    pub(super) async fn restored(self, during: impl AsyncFnOnce(&Server)) -> (Server, Server) {
        let world = WORLD.get().unwrap();
        self.is(Progress::Ready);
        harness::stand_by();
        world.wait(|phase| matches!(phase, Phase::During).then_some(())).await;
        self.is(Progress::During);
        harness::go_on(false).await;
        during(&self.production).await;
        self.is(Progress::Done);
        harness::stand_by();
        let (base, head) = world
            .wait(|phase| match phase {
                Phase::Restored(base, head) => Some((base.clone(), head.clone())),
                _ => None,
            })
            .await;
        let name = self.production.database();
        let restored = (base.in_database(name), head.in_database(name));
        // Production ends with its last user.
        drop(self);
        harness::go_on(true).await;
        restored
    }

    fn is(&self, progress: Progress) {
        let world = WORLD.get().unwrap();
        lock(&world.gaps).insert(self.number, progress);
        world.changed.notify_one();
    }
}

impl Deref for Database {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.production
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        Withdraw(Some(self.number));
    }
}

/// On drop, nobody waits for this gap any more.
struct Withdraw(Option<usize>);

impl Drop for Withdraw {
    fn drop(&mut self) {
        if let (Some(number), Some(world)) = (self.0, WORLD.get()) {
            if let Some(gap) = lock(&world.gaps).get_mut(&number) {
                *gap = Progress::Done;
            }
            world.changed.notify_one();
        }
    }
}
