//! The coordinator's handle of a node: its process, its orders, and its checks.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

use super::clock::{Nanos, now};
use super::history::{CHECK_BYTES, Check, Outcome, Process};
use super::node;
use super::settings::Settings;
use super::telling::Entry;

/// The longest time for an order, the node's own wait for the store included.
const PATIENCE: Duration = Duration::from_secs(180);

/// Why an order failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The node returned an error.
    Said(String),
    /// The node ended, and its answer is lost.
    Lost,
}

/// The answer of a node.
pub type Answer = Result<String, Failure>;

/// Callers that wait for an answer, by the order's number; `None` after the node ended.
type Waiting = std::sync::Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// One run of a node.
pub struct NodeProcess {
    pub number: Process,
    pid: Pid,
    child: Mutex<Child>,
    /// When [`kill`](Self::kill) was called first.
    killed: OnceLock<Nanos>,
    orders: tokio::sync::Mutex<ChildStdin>,
    waiting: Waiting,
    next_order: AtomicU64,
    log: PathBuf,
    /// How much of the log has been read.
    taken: Mutex<usize>,
}

impl NodeProcess {
    /// Starts a node on the store with this URL; `test` is the name of the test that runs a node.
    pub async fn start(
        number: Process,
        test: &str,
        store: &str,
        settings: &Settings,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let log = folder.join(format!("checks-{number}"));
        let millis = |time: Duration| time.as_millis().to_string();
        let mut child = Command::new(&settings.program)
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(node::STORE, store)
            .env(node::LEASE, millis(settings.lease))
            .env(node::STORE_TIMEOUT, millis(settings.store_timeout))
            .env(node::LIMIT_PREFETCH, settings.limit_prefetch.to_string())
            .env(node::CHARGING, settings.charging.name())
            .envs(settings.fault.map(|fault| (node::FAULT, fault)))
            .envs(
                settings
                    .tells
                    .then(|| (node::TOLD, told_by(folder, number))),
            )
            .env(node::LOG, &log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let waiting = Waiting::default();
        let (ready, is_ready) = oneshot::channel();
        *waiting.lock().unwrap() = Some(HashMap::from([(0, ready)]));
        tokio::spawn(hand_out(child.stdout.take().unwrap(), waiting.clone()));
        let process = Self {
            number,
            pid: Pid::from_raw(child.id().unwrap() as i32).unwrap(),
            orders: tokio::sync::Mutex::new(child.stdin.take().unwrap()),
            child: Mutex::new(child),
            killed: OnceLock::new(),
            waiting,
            next_order: AtomicU64::new(1),
            log,
            taken: Mutex::new(0),
        };
        process.wait_for(is_ready, "start").await?;
        Ok(process)
    }

    /// Sends an order and waits for the answer.
    pub async fn ask(&self, order: &str) -> Answer {
        let number = self.next_order.fetch_add(1, Ordering::SeqCst);
        let (sender, answer) = oneshot::channel();
        match &mut *self.waiting.lock().unwrap() {
            None => return Err(Failure::Lost),
            Some(waiting) => waiting.insert(number, sender),
        };
        let line = format!("{number} {order}\n");
        // If the node ended, the end of its output informs all callers.
        let _ = self.orders.lock().await.write_all(line.as_bytes()).await;
        self.wait_for(answer, order).await
    }

    async fn wait_for(&self, answer: oneshot::Receiver<Answer>, order: &str) -> Answer {
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Failure::Lost)),
            Err(_) => panic!(
                "node {} has not answered `{order}` in {PATIENCE:?}",
                self.number
            ),
        }
    }

    /// Stops the process until it is resumed.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills the process, as `kill -9` does.
    pub fn kill(&self) {
        self.killed.get_or_init(now);
        // An error means that it has already ended.
        let _ = self.child.lock().unwrap().start_kill();
    }

    fn signal(&self, signal: Signal) {
        // After a wait, another process may have the id.
        if let Ok(None) = self.child.lock().unwrap().try_wait() {
            kill_process(self.pid, signal).unwrap();
        }
    }

    /// Returns the checks since the last call.
    pub fn take_checks(&self) -> Vec<Check> {
        let mut taken = self.taken.lock().unwrap();
        let checks = self.checks_from(*taken);
        *taken += checks.len() * CHECK_BYTES;
        checks
    }

    /// Returns whether one of the unread checks began after this time and was allowed.
    pub fn has_admitted_since(&self, time: Nanos) -> bool {
        let checks = self.checks_from(*self.taken.lock().unwrap());
        checks
            .iter()
            .any(|check| check.start > time && check.outcome == Outcome::Accepted)
    }

    fn checks_from(&self, taken: usize) -> Vec<Check> {
        let bytes = match read_from(&self.log, taken as u64) {
            Ok(bytes) => bytes,
            Err(error) => panic!("the checks of node {}: {error}", self.number),
        };
        // A killed node can leave an incomplete check at the end.
        let whole = bytes.chunks_exact(CHECK_BYTES);
        whole
            .map(|bytes| Check::from_bytes(self.number, bytes.try_into().unwrap()))
            .collect()
    }

    /// Returns when the node was killed; not if it killed itself.
    pub fn killed(&self) -> Option<Nanos> {
        self.killed.get().copied()
    }

    /// Returns what the node has told and noted, dead or alive.
    pub fn tellings(&self) -> Vec<Entry> {
        let folder = self.log.parent().expect("it is in a folder");
        let bytes = read_from(&told_by(folder, self.number), 0).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        // A killed node can leave an incomplete line at the end.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines();
        lines
            .map(|line| Entry::parse(self.number, line).unwrap())
            .collect()
    }

    /// Returns whether the process has ended.
    pub fn has_ended(&self) -> bool {
        !matches!(self.child.lock().unwrap().try_wait(), Ok(None))
    }

    /// Drops the bytes already read. Call it only while the node does not check.
    pub fn forget_taken(&self) {
        let mut taken = self.taken.lock().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&self.log);
        file.and_then(|file| file.set_len(0)).unwrap();
        *taken = 0;
    }
}

/// Returns the file in which a node logs events of keys that expire soon.
fn told_by(folder: &Path, number: Process) -> PathBuf {
    folder.join(format!("told-{number}"))
}

fn read_from(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};

    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Delivers each answer to its caller, until the node ends.
async fn hand_out(output: ChildStdout, waiting: Waiting) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((number, answer)) = parse(&line) else {
            continue;
        };
        let sender = waiting
            .lock()
            .unwrap()
            .as_mut()
            .and_then(|waiting| waiting.remove(&number));
        if let Some(sender) = sender {
            // The caller may have gone away.
            let _ = sender.send(answer);
        }
    }
    *waiting.lock().unwrap() = None;
}

fn parse(line: &str) -> Option<(u64, Answer)> {
    let (number, rest) = line.strip_prefix('@')?.split_once(' ')?;
    let (outcome, said) = rest.split_once(' ')?;
    let answer = match outcome {
        "ok" => Ok(said.to_owned()),
        _ => Err(Failure::Said(said.to_owned())),
    };
    Some((number.parse().ok()?, answer))
}
