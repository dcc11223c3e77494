//! The roll-up of usage: in the hash of a key and a day, the fields of hours are added to those of the first hour.
//!
//! The days are passed in their order, and of each the keys in theirs. A key of the server says up to where, for all nodes:
//! what is added to a day after that stays in its hours.

use std::iter;

use redis::{Cmd, Value, from_redis_value};

use super::connection::LONG_DEADLINE;
use super::error::RedisFailure;
use super::index::id_of;
use super::read::ids;
use super::script::{self, ScriptCall};
use super::server::{Server, answer};
use super::usage_days::{days, parsed};
use crate::error::StoreError;
use crate::key::KeyId;

/// How many keys a step looks at.
const KEYS: usize = 50;

/// About how many fields of a hash are read at once.
const FIELDS_READ: usize = 200;

/// The maximum number of counts that a script moves, each with its cost.
const COUNTS_MOVED: usize = 500;

const DOING: &str = "rolling usage up to days";

/// A hash of usage, and the place in it from which it is read on.
struct UsageScan {
    hash: String,
    cursor: Vec<u8>,
}

/// Fields of a hash, with their values.
type ScannedFields = Vec<(Vec<u8>, Vec<u8>)>;

/// A field of requests, with the one of the first hour.
type MovedField = (Vec<u8>, Vec<u8>);

/// Looks at some keys on the first day before `day` that is not rolled up. Returns whether there was one, and no other node
/// went on from the same place: this one then leaves the rest to it.
pub(super) async fn step(server: &Server, day: i64) -> Result<bool, StoreError> {
    let mut read = redis::cmd("GET");
    read.arg(server.names.rolled_up_to());
    let (value, _) = server.calls.call(DOING, [read], LONG_DEADLINE).await?.one();
    let position: Option<Vec<u8>> = value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(DOING, error))?;
    let position = position.unwrap_or_default();
    let mut words = position.splitn(2, |byte| *byte == b' ');
    let first = words.next().and_then(parsed).unwrap_or(i64::MIN);
    let days = days(server, DOING, first..=day.saturating_sub(1)).await?;
    let Some(day) = days.into_iter().min() else {
        return Ok(false);
    };
    let after = words.next().filter(|_| day == first);
    let entries = entries(server, after).await?;
    // An entry without an id was written by hand.
    let keys = entries
        .iter()
        .filter_map(|entry| KeyId::from_ascii(id_of(entry)));
    let scans = keys.map(|key| UsageScan {
        hash: server.names.usage(&key, day),
        cursor: b"0".to_vec(),
    });
    roll_up(server, scans.collect()).await?;
    let next = match entries.last() {
        Some(last) if entries.len() == KEYS => {
            [day.to_string().as_bytes(), b" ", id_of(last)].concat()
        }
        _ => day.saturating_add(1).to_string().into_bytes(),
    };
    run(server, &position, &next, Vec::new()).await
}

/// Returns the entries of the next keys in the index.
async fn entries(server: &Server, after: Option<&[u8]>) -> Result<Vec<Vec<u8>>, StoreError> {
    let start = after.map_or(b"[i".to_vec(), |after| [b"(i", after].concat());
    let mut list = redis::cmd("ZRANGE");
    list.arg(server.names.index()).arg(start).arg("(j");
    list.arg(&["BYLEX", "LIMIT", "0"]).arg(KEYS);
    let (value, _) = server.calls.call(DOING, [list], LONG_DEADLINE).await?.one();
    Ok(ids(DOING, value)?)
}

/// Reads these hashes in parts, and moves what was read of each.
async fn roll_up(server: &Server, mut scans: Vec<UsageScan>) -> Result<(), StoreError> {
    while !scans.is_empty() {
        let commands = scans.iter().map(UsageScan::command);
        let answers = server.calls.call(DOING, commands, LONG_DEADLINE).await?;
        let mut found = Vec::new();
        let mut unfinished = Vec::new();
        for (mut scan, value) in scans.into_iter().zip(answers.values) {
            // A key of another type is not usage.
            if matches!(&value, Value::ServerError(error) if error.code() == "WRONGTYPE") {
                continue;
            }
            let (cursor, fields): (Vec<u8>, ScannedFields) = value
                .extract_error()
                .and_then(|value| Ok(from_redis_value(value)?))
                .map_err(|error| RedisFailure::of(DOING, error))?;
            let fields = fields.into_iter().filter_map(|(field, _)| {
                let of_day = of_first_hour(&field)?;
                Some((scan.hash.clone(), (field, of_day)))
            });
            found.extend(fields);
            if cursor != b"0" {
                scan.cursor = cursor;
                unfinished.push(scan);
            }
        }
        for fields in found.chunks(COUNTS_MOVED) {
            let hashes = fields.chunk_by(|(one, _), (other, _)| one == other);
            let hashes = hashes.map(|fields| {
                let moved = fields.iter().map(|(_, field)| field.clone());
                (fields[0].0.clone(), moved.collect())
            });
            run(server, b"", b"", hashes.collect()).await?;
        }
        scans = unfinished;
    }
    Ok(())
}

impl UsageScan {
    fn command(&self) -> Cmd {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(&self.hash).arg(&self.cursor);
        scan.arg("COUNT").arg(FIELDS_READ);
        scan
    }
}

/// Returns the field of the first hour that the requests of a later hour belong to; `None` for a cost, which moves with its
/// requests.
fn of_first_hour(field: &[u8]) -> Option<Vec<u8>> {
    let end = field.iter().position(|byte| *byte == b'|')?;
    let hour: u8 = parsed(&field[..end])?;
    (1..24)
        .contains(&hour)
        .then(|| [b"0", &field[end..]].concat())
}

/// Runs the script that moves fields, and that goes on from `position` to `next` if these differ. Returns whether it did.
async fn run(
    server: &Server,
    position: &[u8],
    next: &[u8],
    hashes: Vec<(String, Vec<MovedField>)>,
) -> Result<bool, StoreError> {
    let mut run = ScriptCall::new(&script::ROLL_UP_USAGE)
        .key(server.names.rolled_up_to())
        .argument(position)
        .argument(next);
    for (hash, fields) in hashes {
        run = run.key(hash).argument(fields.len());
        for text in fields
            .into_iter()
            .flat_map(|(field, of_day)| iter::once(field).chain([of_day]))
        {
            run = run.argument(text);
        }
    }
    let answered = server.calls.run(DOING, &run, LONG_DEADLINE).await?;
    Ok(answer(DOING, answered)?.word == "went_on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_later_hours_belong_to_the_first_and_other_fields_to_none() {
        for (field, of_day) in [
            ("5|allowed|/a|5|b", Some("0|allowed|/a|5|b")),
            ("23|allowed|/a", Some("0|allowed|/a")),
            ("c23|allowed|/a", None),
            ("0|allowed|/a", None),
            ("c0|allowed|/a", None),
            ("24|allowed|/a", None),
            ("-1|allowed|/a", None),
            ("cc5|allowed|/a", None),
            ("5", None),
            ("|", None),
            ("", None),
        ] {
            let found = of_first_hour(field.as_bytes());
            let found = found.as_deref().map(String::from_utf8_lossy);
            assert_eq!(found.as_deref(), of_day, "{field}");
        }
    }
}
