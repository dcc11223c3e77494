//! A history: every check and every change, with its start and end.

use std::fmt;

use super::clock::Nanos;

/// A text that was issued as a key. A rotation issues another.
pub type Key = u32;

/// One run of a node's process; a restarted node gets another number.
pub type Process = u16;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Accepted,
    /// With the index of the reason in [`REASONS`].
    Denied(u8),
    /// The store did not answer.
    Unavailable,
}

/// The possible reasons to deny a key of the harness; the last one stands for all others.
pub const REASONS: [&str; 5] = [
    "invalid-key",
    "expired-key",
    "revoked-key",
    "disabled-key",
    "another reason",
];

impl Outcome {
    pub fn refused(code: &str) -> Self {
        let known = REASONS.iter().position(|reason| *reason == code);
        Self::Denied(known.unwrap_or(REASONS.len() - 1) as u8)
    }
}

/// One check of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    pub key: Key,
    pub process: Process,
    /// Read before the call of the check.
    pub start: Nanos,
    /// Read after the check returned.
    pub end: Nanos,
    pub outcome: Outcome,
}

/// The effect of a change on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Created, issued by a rotation, or enabled.
    Live,
    /// Revoked, replaced by a rotation, or disabled.
    Dead,
}

/// One change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    pub to: Turn,
    /// The process that made it; `None` for one made by hand, in the store.
    pub process: Option<Process>,
    /// Read before the call.
    pub start: Nanos,
    /// Read after the call returned `Ok`. `None` if it returned an error or did not return: then
    /// the change takes effect at any time after its start, or never.
    pub returned: Option<Nanos>,
    /// Whether the call confirmed that the change is known everywhere.
    pub confirmed: bool,
    /// How long the key stays valid after the change.
    pub grace: Nanos,
}

/// The input of a checker.
#[derive(Debug, Default)]
pub struct History {
    pub checks: Vec<Check>,
    pub changes: Vec<Change>,
    /// When the store was reset to an earlier state: changes made before are no longer judged.
    pub reset: Option<Nanos>,
    /// The processes that ran from before the first change until after the last.
    pub throughout: Vec<Process>,
    /// The keys that each of those processes had allowed before the first change.
    pub warm: Vec<Key>,
}

/// The size of a check in a file, in bytes.
pub const CHECK_BYTES: usize = 21;

impl Check {
    pub fn to_bytes(self) -> [u8; CHECK_BYTES] {
        let outcome = match self.outcome {
            Outcome::Accepted => 0,
            Outcome::Unavailable => 1,
            Outcome::Denied(reason) => 2 + reason,
        };
        let mut bytes = [0; CHECK_BYTES];
        bytes[..4].copy_from_slice(&self.key.to_le_bytes());
        bytes[4] = outcome;
        bytes[5..13].copy_from_slice(&self.start.to_le_bytes());
        bytes[13..].copy_from_slice(&self.end.to_le_bytes());
        bytes
    }

    pub fn from_bytes(process: Process, bytes: &[u8; CHECK_BYTES]) -> Self {
        let nanos = |from: usize| {
            Nanos::from_le_bytes(bytes[from..from + 8].try_into().expect("eight bytes"))
        };
        Self {
            key: Key::from_le_bytes(bytes[..4].try_into().expect("four bytes")),
            process,
            start: nanos(5),
            end: nanos(13),
            outcome: match bytes[4] {
                0 => Outcome::Accepted,
                1 => Outcome::Unavailable,
                reason => Outcome::Denied(reason - 2),
            },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Unavailable => f.write_str("unavailable"),
            Self::Denied(reason) => {
                let reason = REASONS.get(usize::from(*reason)).unwrap_or(&"?");
                write!(f, "refused ({reason})")
            }
        }
    }
}

/// Converts to milliseconds.
pub fn millis(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "check of key {} by process {} from {:.3} to {:.3} ms: {}",
            self.key,
            self.process,
            millis(self.start),
            millis(self.end),
            self.outcome
        )
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.confirmed { "confirmed" } else { "plain" };
        write!(f, "{kind} change of key {} to {:?}", self.key, self.to)?;
        match self.process {
            Some(process) => write!(f, " by process {process}")?,
            None => f.write_str(" by hand")?,
        }
        write!(f, " from {:.3}", millis(self.start))?;
        match self.returned {
            Some(returned) => write!(f, " to {:.3} ms", millis(returned))?,
            None => f.write_str(" ms, outcome not known")?,
        }
        if self.grace > 0 {
            write!(f, ", grace {:.0} ms", millis(self.grace))?;
        }
        Ok(())
    }
}
