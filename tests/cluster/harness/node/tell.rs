//! Reads the events of keys that expire soon, and logs them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use apikey_runtime::events::{Event, EventKind};
use apikey_runtime::store::ExpiryNotice;
use apikey_runtime::{ApiKeyManager, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::Hindered;
use crate::harness::clock::now;
use crate::harness::telling::{Entry, Noted, Telling};

/// What the node told and noted, in a file that outlives the node.
#[derive(Debug)]
pub struct TellingLog(File);

/// Logs each event in the file before the store is told that it was sent. A killed node has then logged
/// all that it sent: in an application, a reader may lose events that it has not read.
pub fn listen(manager: &ApiKeyManager, store: &Arc<Hindered>, log: &Path) {
    let file = OpenOptions::new().append(true).create(true).open(log);
    let (log, mut events) = (Arc::new(TellingLog(file.unwrap())), manager.events());
    let (sender, mut questions) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    store.log_notes(sender, Arc::clone(&log));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(event) => log.told(&event),
                    None => return,
                },
                // All events from before the question are read.
                Some(question) = questions.recv() => drop(question.send(())),
            }
        }
    });
}

impl TellingLog {
    fn told(&self, event: &Event) {
        match (&event.kind, event.key_id) {
            (EventKind::ExpiringSoon { days, expires, .. }, Some(key)) => {
                let telling = Telling {
                    at: now(),
                    process: 0,
                    key: key.to_string(),
                    days: *days,
                    expires: expires.as_millis(),
                };
                self.append(&Entry::Told(telling).line());
            }
            (EventKind::Lagged { count, .. }, _) => panic!("{count} events are not read"),
            _ => {}
        }
    }

    /// Logs that the store has finished these.
    pub(super) fn noted(&self, finished: &[(ExpiryNotice, Option<Timestamp>)]) {
        let at = now();
        let line = |notice: &ExpiryNotice| {
            let noted = Noted {
                at,
                process: 0,
                key: notice.key.to_string(),
                expires: notice.expires.as_millis(),
            };
            Entry::Noted(noted).line()
        };
        let lines = finished.iter().map(|(notice, _)| line(notice));
        self.append(&lines.collect::<String>());
    }

    /// Logs that the node is about to kill itself.
    pub(super) fn dies(&self) {
        self.append(&Entry::Dies(now()).line());
    }

    /// The system appends each write as a whole.
    fn append(&self, lines: &str) {
        (&self.0).write_all(lines.as_bytes()).unwrap();
    }
}
