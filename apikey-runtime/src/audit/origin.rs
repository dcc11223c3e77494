//! Who makes a change, through what, from where, and why.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// Where a change comes from: who made it, through what, from where, and why.
///
/// A store writes it into the [audit log](crate::store::AuditStore), in the same transaction as the
/// change.
///
/// ```
/// use apikey_runtime::audit::{ChangeChannel, ChangeOrigin};
///
/// let origin = ChangeOrigin::new()
///     .with_actor("anna@example.com")
///     .with_channel(ChangeChannel::Page)
///     .with_address("192.0.2.7".parse()?)
///     .with_request_id("4bf92f35")
///     .with_reason("left the company");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChangeOrigin {
    /// Who made the change.
    pub actor: Option<String>,
    /// Through what it was made.
    pub channel: ChangeChannel,
    /// The address of the client that requested it.
    pub address: Option<IpAddr>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// Why it was made.
    pub reason: Option<String>,
}

/// Through what a change was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeChannel {
    /// A call in the application's code. The default.
    #[default]
    Code,
    /// A page for people.
    Page,
    /// An API for programs.
    Api,
    /// A command line.
    CommandLine,
    /// A report of leaked keys.
    LeakReport,
    /// An import from another system.
    Import,
    /// A statement by hand, outside this library.
    Sql,
    /// A channel of a later release.
    Unknown,
}

impl ChangeOrigin {
    /// Creates an origin that names nothing, with the channel [`ChangeChannel::Code`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the actor: 1 to 256 bytes. By default, none is named.
    #[must_use]
    pub fn with_actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Sets the channel. By default, [`ChangeChannel::Code`].
    #[must_use]
    pub fn with_channel(mut self, channel: ChangeChannel) -> Self {
        self.channel = channel;
        self
    }

    /// Sets the address of the client that requested the change. By default, `None`.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Sets the id of the request: 1 to 64 ASCII letters, digits, `.`, `_` and `-`. By default, `None`.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// Sets the reason: 1 to 256 bytes. By default, `None`.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

impl ChangeChannel {
    /// All channels that have a code.
    const ALL: [Self; 7] = [
        Self::Code,
        Self::Page,
        Self::Api,
        Self::CommandLine,
        Self::LeakReport,
        Self::Import,
        Self::Sql,
    ];

    /// Returns the stored form, such as `command_line`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Page => "page",
            Self::Api => "api",
            Self::CommandLine => "command_line",
            Self::LeakReport => "leak_report",
            Self::Import => "import",
            Self::Sql => "sql",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the channel with this code. A code that is not known may be one of a later release.
    #[must_use]
    pub fn from_code(code: &str) -> Self {
        let found = Self::ALL.into_iter().find(|channel| channel.code() == code);
        found.unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for ChangeChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
