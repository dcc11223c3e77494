//! The scripts. Each write is one, so that what stops it between two steps leaves all of it or
//! nothing, and so does a caller who goes away. What it uses comes as KEYS and ARGV, so that no text
//! of a record can become a name or code.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs};

/// A script and its name on the server, which is its SHA-1.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    sum: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self {
            text,
            sum: redis::Script::new(text).get_hash().to_owned(),
        }
    }
}

/// Scripts made of parts that several share.
macro_rules! scripts {
    ($($name:ident = $($part:literal)+;)+) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("scripts/", $part, ".lua"))),+)));)+
    };
}

scripts! {
    INSERT = "write" "records" "insert";
    UPDATE = "write" "records" "update";
    REVOKE = "write" "records" "revoke";
    REVOKE_OWNER = "write" "records" "revoke_owner";
    PURGE = "write" "records" "less" "purge";
    SELECT = "read" "select";
    FOUND = "found";
    LEASE = "write" "lease";
    SETTLE = "write" "settle";
    CHANGES = "read" "changes";
    NODES = "read" "nodes";
    JOIN = "write" "join";
    ACKNOWLEDGE = "write" "acknowledge";
    SUSPECT = "suspect";
    DISMISS = "dismiss";
    CHARGE = "count" "charge";
    REFILL = "count" "refill";
    USAGE = "head" "less" "usage";
}

/// A script with what it is to work on.
#[derive(Debug)]
pub(super) struct Run {
    script: &'static Script,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl Run {
    pub(super) fn new(script: &'static Script) -> Self {
        Self {
            script,
            keys: Vec::new(),
            arguments: Vec::new(),
        }
    }

    pub(super) fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.keys.push(key.into());
        self
    }

    pub(super) fn keys<K: Into<Vec<u8>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys.extend(keys.into_iter().map(Into::into));
        self
    }

    pub(super) fn argument(mut self, argument: impl ToRedisArgs) -> Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// Calls the script by its name, which is short.
    pub(super) fn by_name(&self) -> Cmd {
        self.command("EVALSHA", &self.script.sum)
    }

    /// Calls the script by its text, which a server keeps until it restarts or is told to forget it.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len());
        for text in self.keys.iter().chain(&self.arguments) {
            command.arg(text.as_slice());
        }
        command
    }
}
