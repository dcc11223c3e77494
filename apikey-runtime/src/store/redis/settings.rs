//! Settings of the server under which it can lose what it has acknowledged.

use std::collections::HashMap;

use redis::{Cmd, Value, from_redis_value, from_redis_value_ref};

use super::connection::{DEADLINE, RedisConnection};
use super::error::RedisFailure;

const NAMES: [&str; 5] = [
    "appendonly",
    "appendfsync",
    "maxmemory",
    "maxmemory-policy",
    "min-replicas-to-write",
];

/// Logs a warning for each.
pub(super) async fn warn(connection: &RedisConnection) -> Result<(), RedisFailure> {
    let commands = [
        redis::cmd("CONFIG").arg("GET").arg(&NAMES).to_owned(),
        role(),
    ];
    let doing = "reading the settings of the server";
    let values = connection.call(doing, commands, DEADLINE).await?.values;
    let [settings, role] =
        <[Value; 2]>::try_from(values).unwrap_or_else(|_other_count| [Value::Nil, Value::Nil]);
    let settings: Option<HashMap<String, String>> = settings
        .extract_error()
        .ok()
        .and_then(|settings| from_redis_value(settings).ok());
    match settings {
        Some(settings) if !settings.is_empty() => {
            for loss in losses(&settings, replicas(&role)) {
                tracing::warn!("the Redis server can lose what it has acknowledged: {loss}");
            }
        }
        _ => tracing::warn!(
            "the settings of the Redis server cannot be read, so nothing tells whether it can lose what \
             it has acknowledged, a revocation say; allow `CONFIG GET`, or see yourself that \
             `appendonly` is `yes`, `appendfsync` is `always` and `maxmemory-policy` is `noeviction`"
        ),
    }
    Ok(())
}

fn role() -> Cmd {
    redis::cmd("ROLE")
}

/// How many replicas ROLE tells of.
fn replicas(role: &Value) -> usize {
    role.as_sequence()
        .and_then(|role| role.get(2))
        .and_then(|replicas| from_redis_value_ref::<Vec<Value>>(replicas).ok())
        .map_or(0, |replicas| replicas.len())
}

/// What can be lost, and what to write.
fn losses(settings: &HashMap<String, String>, replicas: usize) -> Vec<&'static str> {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|found| found == value);
    let mut losses = Vec::new();
    if !is("appendonly", "yes") {
        losses.push(
            "`appendonly` is not `yes`, so a crash or a restart can undo every change since the last \
             dump, revocations too; set `appendonly yes` and `appendfsync always`",
        );
    } else if !is("appendfsync", "always") {
        losses.push(
            "`appendfsync` is not `always`, so a crash of the machine can undo the changes of its last \
             seconds, revocations too; set `appendfsync always`",
        );
    }
    if !is("maxmemory", "0") && !is("maxmemory-policy", "noeviction") {
        losses.push(
            "`maxmemory-policy` is not `noeviction`, so keys, indexes or the history can be thrown out \
             when the memory is full; set `maxmemory-policy noeviction`",
        );
    }
    if replicas > 0 && is("min-replicas-to-write", "0") {
        losses.push(
            "it has replicas and `min-replicas-to-write` is 0, so a failover can undo changes that no \
             replica had yet, and an old primary that is cut off goes on to answer; set \
             `min-replicas-to-write 1` and a small `min-replicas-max-lag`",
        );
    }
    losses
}
