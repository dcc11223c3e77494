//! How deeply metadata is nested, without recursion: to print, compare or drop a deep value would
//! overflow the stack, which aborts the process.

use serde_json::Value;

use super::Metadata;
use crate::error::StoreError;

/// The deepest nesting that serde_json parses. Recursion to this depth is safe.
pub(crate) const MAX_READABLE_DEPTH: usize = 127;

/// The values within an array or an object that are not visited yet.
enum Rest<'v> {
    Array(std::slice::Iter<'v, Value>),
    Object(serde_json::map::Values<'v>),
}

impl<'v> Rest<'v> {
    fn of(value: &'v Value) -> Option<Self> {
        match value {
            Value::Array(values) => Some(Self::Array(values.iter())),
            Value::Object(members) => Some(Self::Object(members.values())),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<&'v Value> {
        match self {
            Self::Array(values) => values.next(),
            Self::Object(members) => members.next(),
        }
    }
}

/// Returns the levels of arrays and objects in `metadata`, which is the first level itself.
pub(crate) fn depth(metadata: &Metadata) -> usize {
    let (mut path, mut deepest) = (vec![Rest::Object(metadata.values())], 1);
    while let Some(rest) = path.last_mut() {
        match rest.next() {
            Some(value) => {
                path.extend(Rest::of(value));
                deepest = deepest.max(path.len());
            }
            None => {
                path.pop();
            }
        }
    }
    deepest
}

/// Rejects metadata that a store could not read back.
pub(crate) fn check_readable(metadata: &Metadata) -> Result<(), StoreError> {
    match depth(metadata) {
        ..=MAX_READABLE_DEPTH => Ok(()),
        depth => Err(StoreError::InvalidArgument(format!(
            "the metadata is nested {depth} levels deep; nest it at most {MAX_READABLE_DEPTH} levels"
        ))),
    }
}

/// Drops metadata of any depth.
pub(crate) fn dismantle(metadata: Metadata) {
    let mut values: Vec<Value> = metadata.into_values().collect();
    while let Some(value) = values.pop() {
        match value {
            Value::Array(inner) => values.extend(inner),
            Value::Object(inner) => values.extend(inner.into_values()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Metadata {
        Metadata::from_iter([("a".to_owned(), value)])
    }

    #[test]
    fn the_object_itself_is_the_first_level() {
        assert_eq!(depth(&Metadata::new()), 1);
        assert_eq!(depth(&object(json!("text"))), 1);
        assert_eq!(depth(&object(json!([1, {}, [], 2]))), 3);
        assert_eq!(depth(&object(json!([[[]], { "b": { "c": [1] } }, 3]))), 5);
    }

    /// The deepest that is called readable is, and one more level is not.
    #[test]
    fn the_readable_depth_is_that_of_the_parser() {
        for (arrays, readable) in [(126, true), (127, false)] {
            let text = format!(r#"{{"a":{}{}}}"#, "[".repeat(arrays), "]".repeat(arrays));
            assert_eq!(serde_json::from_str::<Metadata>(&text).is_ok(), readable);
            let value = (1..arrays).fold(json!([]), |inner, _| json!([inner]));
            assert_eq!(depth(&object(value)) <= MAX_READABLE_DEPTH, readable);
        }
    }

    /// The control is `drop`, which overflows this stack and so would abort the tests.
    #[test]
    fn a_value_of_any_depth_is_measured_and_dropped_on_a_small_stack() {
        let small = std::thread::Builder::new().stack_size(64 * 1024);
        let run = || {
            let mut value = Value::Null;
            for level in 0..500_000 {
                let inner = value;
                value = if level % 2 == 0 {
                    Value::Array(vec![inner, Value::Null])
                } else {
                    Value::Object(object(inner))
                };
            }
            let metadata = object(value);
            assert_eq!(depth(&metadata), 500_001);
            dismantle(metadata);
        };
        small.spawn(run).unwrap().join().unwrap();
    }
}
