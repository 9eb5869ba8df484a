//! Azure's storage, as Microsoft's own emulator has it: Azurite.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::binaries::caches;

/// Starts a program and ends it when its input ends, which is when the owner drops its end of
/// the pipe or dies in whatever way. The shell's own output is closed, so that the program's end
/// is the end of the output.
pub(crate) const GUARD: &str = r#"
    trap '' HUP INT QUIT TERM
    "$@" < /dev/null &
    child=$!
    exec > /dev/null
    read -r _
    kill -KILL "$child"
    wait "$child"
"#;

/// How long the emulator may take to listen; it is Node.js, and the machine may be busy.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// How many accounts an emulator has besides the well-known one.
const MORE_ACCOUNTS: usize = 500;

/// Blob, queue and table storage of one account on free ports of this machine, held in memory.
/// Ends when this is dropped, or when this process ends.
///
/// It takes any version of the protocol (`--skipApiVersionCheck`): Azure's clients are newer than
/// the emulator. What it does not cover: sign-in by Entra ID, throttling, replication, the limits of
/// an account.
#[derive(Debug)]
pub struct Azurite {
    emulator: Arc<Emulator>,
    account: String,
}

/// The process, with many accounts.
#[derive(Debug)]
struct Emulator {
    guard: Child,
    ports: [u16; 3],
}

impl Azurite {
    /// The account's name, the emulator's well-known one.
    pub const ACCOUNT: &str = "devstoreaccount1";

    /// The account's key, the emulator's well-known one.
    pub const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    /// Starts an emulator and waits until it listens. Fails if `scripts/setup --azurite` was not run.
    pub fn start() -> Result<Self> {
        let emulator = Arc::new(Emulator::start()?);
        Ok(Self { emulator, account: Self::ACCOUNT.to_owned() })
    }

    /// An account that nobody else uses, in an emulator that all of this process share and that ends
    /// with the process. Fails as [`Azurite::start`] does, or if all accounts are taken.
    pub fn shared() -> Result<Self> {
        static EMULATOR: Mutex<Option<Arc<Emulator>>> = Mutex::new(None);
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let mut emulator = EMULATOR.lock().unwrap_or_else(PoisonError::into_inner);
        let emulator = match &mut *emulator {
            Some(emulator) => Arc::clone(emulator),
            none => Arc::clone(none.insert(Arc::new(Emulator::start()?))),
        };
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        ensure!(number < MORE_ACCOUNTS, "all {MORE_ACCOUNTS} accounts of the emulator are taken");
        Ok(Self { emulator, account: account(number) })
    }

    /// What an app setting has to reach it, as a desk with Azurite has it.
    pub fn connection_string(&self) -> String {
        let [blob, queue, table] = [0, 1, 2].map(|service| self.url(service));
        format!(
            "DefaultEndpointsProtocol=http;AccountName={};AccountKey={};BlobEndpoint={blob};\
             QueueEndpoint={queue};TableEndpoint={table};",
            self.account,
            Self::KEY
        )
    }

    /// The queue service, without a signature.
    pub fn queue_url(&self) -> String {
        self.url(1)
    }

    /// The blob service, without a signature.
    pub fn blob_url(&self) -> String {
        self.url(0)
    }

    fn url(&self, service: usize) -> String {
        format!("http://127.0.0.1:{}/{}", self.emulator.ports[service], self.account)
    }
}

/// The name of an account besides the well-known one.
fn account(number: usize) -> String {
    format!("account{number:03}")
}

impl Emulator {
    fn start() -> Result<Self> {
        let accounts: Vec<String> = std::iter::once(Azurite::ACCOUNT.to_owned())
            .chain((0..MORE_ACCOUNTS).map(account))
            .map(|account| format!("{account}:{}", Azurite::KEY))
            .collect();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard", "node"])
            .arg(program()?)
            .args(["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"])
            .args(["--silent", "--blobPort", "0", "--queuePort", "0", "--tablePort", "0"])
            .env("AZURITE_ACCOUNTS", accounts.join(";"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start Azurite")?;
        let output = guard.stdout.take().context("Azurite has no output")?;
        let (send, listening) = mpsc::channel();
        // It goes on reading, so that the emulator never waits for its output to be read.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output);
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                if let Some(service) = listens(&line) {
                    let _ = send.send(service);
                }
                line.clear();
            }
            let _ = lines.read_to_string(&mut line);
        });
        let mut emulator = Self { guard, ports: [0; 3] };
        while emulator.ports.contains(&0) {
            let (service, port) = listening
                .recv_timeout(STARTS_WITHIN)
                .context("Azurite does not listen; does `node` start?")?;
            emulator.ports[service] = port;
        }
        Ok(emulator)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// `Azurite Queue service is successfully listening at http://127.0.0.1:46243`: which one, where.
fn listens(line: &str) -> Option<(usize, u16)> {
    let (service, address) = line.split_once(" service is successfully listening at ")?;
    let which = ["Blob", "Queue", "Table"].iter().position(|name| service.ends_with(name))?;
    Some((which, address.trim().rsplit_once(':')?.1.parse().ok()?))
}

fn program() -> Result<PathBuf> {
    let found = caches()
        .into_iter()
        .map(|cache| cache.join("azurite/node_modules/azurite/dist/src/azurite.js"))
        .find(|program| program.exists());
    match found {
        Some(program) => Ok(program),
        None => bail!("Azurite is not installed: run `scripts/setup --azurite`"),
    }
}
