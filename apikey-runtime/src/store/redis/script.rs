//! The scripts. Each write is one script, so that a crash, or a caller that goes away, leaves all of
//! it or nothing. Its inputs are KEYS and ARGV, so that a text of a record cannot become a name or
//! code.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs};

/// A script and its name on the server, which is its SHA-1.
#[derive(Debug)]
pub(super) struct LuaScript {
    text: &'static str,
    sum: String,
}

impl LuaScript {
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
        $(pub(super) static $name: LazyLock<LuaScript> =
            LazyLock::new(|| LuaScript::new(concat!($(include_str!(concat!("scripts/", $part, ".lua"))),+)));)+
    };
}

scripts! {
    READ_RECORDS = "read_only" "owner_keys" "compare_i64" "clock" "owners" "read_records";
    INSERT = "change_log" "record_keys" "options" "compare_i64" "clock" "owners" "sortable" "live" "live_bound" "records" "revoked" "owned_records" "audit_index" "audit" "notices" "insert";
    UPDATE = "change_log" "record_keys" "options" "compare_i64" "clock" "owners" "sortable" "live" "live_bound" "records" "changed_entries" "revoked" "owned_records" "audit_index" "audit" "notices" "update";
    REVOKE = "change_log" "record_keys" "options" "compare_i64" "clock" "owners" "sortable" "live" "records" "changed_entries" "revoked" "audit_index" "audit" "revoke";
    PURGE = "change_log" "record_keys" "options" "compare_i64" "clock" "owners" "sortable" "live" "records" "revoked" "audit_index" "audit" "notices" "purge";
    REINDEX = "change_log" "record_keys" "options" "compare_i64" "clock" "owners" "sortable" "live" "records" "notices" "reindex";
    SELECT_NOTICES = "read_only" "select_notices";
    CLAIM_NOTICES = "change_log" "record_keys" "clock" "sortable" "notices" "claim_notices";
    FINISH_NOTICES = "change_log" "record_keys" "clock" "sortable" "notices" "finish_notices";
    COMPLETE_NOTICES = "change_log" "record_keys" "clock" "sortable" "notices" "complete_notices";
    COMPLETE_OWNERS = "change_log" "record_keys" "complete_owners";
    SELECT_IDS = "read_only" "index_range" "select_ids";
    SELECT_RANGE = "read_only" "record_keys" "sortable" "select_range";
    UNINDEXED = "read_only" "unindexed";
    LIST_OWNERS = "read_only" "list_owners";
    LIVE_KEYS = "read_only" "record_keys" "compare_i64" "clock" "owners" "sortable" "live" "live_keys";
    READ_AUDIT = "read_only" "sortable" "audit_index" "read_audit";
    PRUNE_AUDIT = "read_write" "sortable" "audit_index" "prune_audit";
    SUSPEND_OWNER = "change_log" "present_version" "record_keys" "options" "compare_i64" "clock" "owners" "sortable" "audit_index" "audit" "change_owner" "suspend_owner";
    REVOKE_OWNER_KEYS = "change_log" "present_version" "record_keys" "options" "compare_i64" "clock" "owners" "sortable" "audit_index" "audit" "mark_position" "change_owner" "revoke_owner_keys";
    UNMARKED = "read_only" "index_range" "mark_position" "unmarked";
    MARK = "change_log" "record_keys" "compare_i64" "clock" "owners" "sortable" "live" "records" "revoked" "index_range" "mark_position" "mark";
    INIT_HISTORY = "init_history";
    SET_LEASE = "change_log" "set_lease";
    LOWER_LONGEST_LEASE = "change_log" "lower_longest_lease";
    CHANGES = "read_only" "changes";
    MEMBERS = "read_only" "members";
    RAISE_SCHEMA = "change_log" "present_version" "raise_schema";
    JOIN = "change_log" "present_version" "join";
    TRIM_LOG = "read_write" "compare_i64" "trim_log";
    ACKNOWLEDGE = "change_log" "acknowledge";
    SUSPECT = "suspect";
    REMOVE_NODE = "remove_node";
    CHARGE = "limit_counter" "charge";
    REFILL = "limit_counter" "refill";
    ADD_USAGE = "read_write" "compare_i64" "add_usage";
    READ_USAGE_HOUR = "read_only" "read_usage_hour";
    ROLL_UP_USAGE = "read_write" "roll_up_usage";
    COPY_RECORDS = "change_log" "record_keys" "options" "compare_i64" "clock" "owners" "sortable" "live" "records" "changed_entries" "revoked" "notices" "copy_records";
    COPY_OWNERS = "change_log" "record_keys" "copy_owners";
    COPY_FIELDS = "read_write" "copy_fields";
    COPY_USAGE = "read_write" "copy_usage";
    COPY_NETWORKS = "read_write" "copy_networks";
    COPY_AUDIT = "read_write" "sortable" "audit_index" "copy_audit";
    SHARED_SECRET = "read_write" "shared_secret";
}

/// A script with what it is to work on.
#[derive(Debug)]
pub(super) struct ScriptCall {
    script: &'static LuaScript,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl ScriptCall {
    pub(super) fn new(script: &'static LuaScript) -> Self {
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
