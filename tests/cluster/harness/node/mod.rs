//! A node: a process with its own manager, which checks keys without a pause, logs every check, and
//! obeys orders on its standard input.

mod careless;
mod changes;
mod fill;
mod hinder;
mod log;
mod spend;
mod tell;
mod watch;

use std::env::var;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::{
    ApiKeyManager, Config, KeyId, KeyStore, Limit, PostgresStore, RedisStore, SqliteStore,
};

use apikey_test_support::store::Call;

pub use careless::Charging;
pub use hinder::{Death, Hindered, Hindering, Hindrance};
use log::Log;
use spend::Spender;
use watch::Watch;

/// Makes the test binary a node, on this store.
pub const STORE: &str = "CLUSTER_NODE_STORE";
/// The lease that the node sets for the store, in milliseconds.
pub const LEASE: &str = "CLUSTER_NODE_LEASE_MS";
/// The file for its checks.
pub const LOG: &str = "CLUSTER_NODE_LOG";

/// How long the node waits for its store, in milliseconds.
pub const STORE_TIMEOUT: &str = "CLUSTER_NODE_STORE_TIMEOUT_MS";
/// How many units of a limit the node prefetches.
pub const LIMIT_PREFETCH: &str = "CLUSTER_NODE_LIMIT_PREFETCH";
/// How the node's store charges: the name of a [`Charging`].
pub const CHARGING: &str = "CLUSTER_NODE_CHARGING";
/// The file for the events of keys that expire soon; unset if the node does not read events.
pub const TOLD: &str = "CLUSTER_NODE_TOLD";
/// Names the disabled protection, in a build that supports it.
pub const FAULT: &str = "APIKEY_FAULT";

/// How often the node looks for keys that expire soon, if it reads events.
const NOTICE_INTERVAL: Duration = Duration::from_millis(100);

/// The state of a node.
struct Node {
    manager: ApiKeyManager,
    store: Arc<Hindered>,
    watch: Watch,
    spender: Spender,
    log: Arc<Log>,
}

/// Runs a node if the environment asks for one, until it is told to stop; otherwise does nothing.
pub fn run_if_asked() {
    let Ok(store) = var(STORE) else { return };
    // The kernel kills this process with its coordinator, even if it is stopped.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&store));
}

async fn run(store: &str) {
    let lease = millis(LEASE);
    let log = Log::to(&PathBuf::from(var(LOG).unwrap()));
    let charging = Charging::named(&var(CHARGING).unwrap()).unwrap();
    let store = Hindering::of(open(store, lease), charging);
    let config = Config::builder()
        .store_timeout(millis(STORE_TIMEOUT))
        .limit_prefetch(var(LIMIT_PREFETCH).unwrap().parse().unwrap())
        .expiry_notice_interval(NOTICE_INTERVAL)
        .build();
    let started = ApiKeyManager::builder()
        .config(config.unwrap())
        .shared_store(Arc::clone(&store) as Arc<dyn KeyStore>)
        .start()
        .await;
    let manager = match started {
        Ok(manager) => manager,
        Err(error) => return say("0", Err(&error.to_string())),
    };
    if let Ok(told) = var(TOLD) {
        tell::listen(&manager, &store, &PathBuf::from(told));
    }
    say("0", Ok("ready"));
    let node = Arc::new(Node {
        watch: Watch::new(manager.clone(), Arc::clone(&log)),
        spender: Spender::new(manager.clone(), Arc::clone(&log)),
        manager,
        store,
        log,
    });
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let (number, order) = line.split_once(' ').unwrap();
        let (number, order) = (number.to_owned(), order.to_owned());
        let ends = order == "stop";
        let (node, order_number) = (Arc::clone(&node), number);
        let work = tokio::spawn(async move {
            let answer = node.obey(&order).await;
            say(&order_number, answer.as_deref().map_err(String::as_str));
        });
        if ends {
            work.await.unwrap();
            return;
        }
    }
}

fn millis(variable: &str) -> Duration {
    Duration::from_millis(var(variable).unwrap().parse().unwrap())
}

impl Node {
    /// Carries out an order.
    async fn obey(self: &Arc<Self>, order: &str) -> Result<String, String> {
        let words: Vec<&str> = order.split(' ').collect();
        match *words.as_slice() {
            ["watch", key, secret] => {
                self.watch.begin(key.parse().unwrap(), secret);
                Ok(String::new())
            }
            ["unwatch"] => {
                self.watch.end().await;
                self.log.flush();
                Ok(String::new())
            }
            ["seen"] => Ok(self.watch.seen()),
            ["burst", key, secret, count, apart] => {
                let apart = Duration::from_millis(apart.parse().unwrap());
                self.watch
                    .burst(key.parse().unwrap(), secret, count.parse().unwrap(), apart)
                    .await;
                Ok(String::new())
            }
            ["issue", ref limits @ ..] => self.issue(&limits.join(" ")).await,
            ["ready", order] => {
                let order = serde_json::from_str(order).unwrap();
                self.spender.ready(order).await.map(|()| String::new())
            }
            ["go", at] => {
                let gone = self.spender.go(at.parse().unwrap()).await;
                gone.map(|refused| serde_json::to_string(&refused).unwrap())
            }
            ["go-on"] => {
                self.spender.go_on();
                Ok(String::new())
            }
            ["enough"] => {
                self.spender.end();
                Ok(String::new())
            }
            ["limits", id] => self.limits(id.parse().unwrap()).await,
            ["usage", id] => self.usage(id.parse().unwrap()).await,
            ["finds"] => Ok(self.store.finds().to_string()),
            ["claims"] => Ok(self.store.claims().to_string()),
            ["fill", ref order @ ..] => {
                let order = serde_json::from_str(&order.join(" ")).unwrap();
                let filled = fill::fill(&self.manager, &order).await?;
                Ok(serde_json::to_string(&filled).unwrap())
            }
            ["dies", call, answered, passes] => {
                self.store.dies_at(Death {
                    call: noticing_call(call),
                    answered: answered == "answered",
                    passes: passes.parse().unwrap(),
                });
                Ok(String::new())
            }
            ["hinder", how, millis] => {
                let millis = Duration::from_millis(millis.parse().unwrap());
                self.store
                    .hinder(Hindrance::named(how, millis).unwrap())
                    .await;
                Ok(String::new())
            }
            ["stop"] => {
                self.watch.end().await;
                self.log.flush();
                let stopped = self.manager.shutdown().await;
                stopped
                    .map(|()| String::new())
                    .map_err(|error| error.to_string())
            }
            _ => self.change(&words).await,
        }
    }

    /// Creates a key with these limits.
    async fn issue(&self, limits: &str) -> Result<String, String> {
        let limits: Vec<Limit> = serde_json::from_str(limits).unwrap();
        let made = self.manager.create("limited").limits(limits).await;
        let made = made.map_err(|error| error.to_string())?;
        Ok(format!("{} {}", made.id(), made.expose_secret()))
    }

    /// Returns the usage of a key.
    async fn usage(&self, id: KeyId) -> Result<String, String> {
        let usage = self.manager.usage(id).await;
        let usage = usage.map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(&usage.total()).unwrap())
    }

    /// Returns the status of a key's limits.
    async fn limits(&self, id: KeyId) -> Result<String, String> {
        let limits = self.manager.limits(id).await;
        let limits = limits.map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(&limits).unwrap())
    }
}

/// Returns a call of the task that tells what expires soon.
fn noticing_call(name: &str) -> Call {
    match name {
        "claim" => Call::ClaimNotices,
        "find" => Call::Find,
        "finish" => Call::FinishNotices,
        _ => panic!("{name:?} is not a call"),
    }
}

/// Opens the store of a URL.
pub(crate) fn open(store: &str, lease: Duration) -> Arc<dyn KeyStore> {
    match store.split_once(':') {
        Some(("sqlite", path)) => Arc::new(SqliteStore::new(path).lease(lease)),
        Some(("postgres", _)) => Arc::new(PostgresStore::new(store).lease(lease)),
        Some(("redis", _)) => Arc::new(RedisStore::new(store).lease(lease)),
        _ => panic!("{store:?} is not the URL of a store"),
    }
}

/// Writes one whole line: the answer to the order with this number. It starts on a new line, after
/// anything that the test runner wrote.
fn say(number: &str, answer: Result<&str, &str>) {
    let line = match answer {
        Ok(answer) => format!("\n@{number} ok {answer}\n"),
        Err(error) => format!("\n@{number} err {}\n", error.replace('\n', " ")),
    };
    let mut out = std::io::stdout().lock();
    if out
        .write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        // The coordinator is gone.
        std::process::exit(0);
    }
}

/// Returns the input lines until the coordinator is gone; then the process ends.
fn lines() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (sender, lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    lines
}
