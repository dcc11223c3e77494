//! Reads the audit log.

mod export;

pub use export::AuditExport;

use super::ApiKeyManager;
use super::call::{StartedCall, impl_call};
use super::core::ManagerCore;
use crate::audit::AuditFormat;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::key::KeyId;
use crate::metrics::StoreCall;
use crate::store::{AuditPage, AuditQuery, AuditStore, MAX_PAGE_SIZE, answer};

/// The default page size, and that of an export.
const PAGE_SIZE: u32 = 100;

/// The maximum length of a position, in bytes.
const MAX_POSITION_LEN: usize = 64;

impl ApiKeyManager {
    /// Reads the audit log: who changed which key or owner, when, through what and why. Resolves to the
    /// newest entries.
    ///
    /// [`guide::audit`](crate::guide::audit) says what the log holds.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// use apikey_runtime::audit::AuditAction;
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("ci").actor("anna").await?;
    /// manager.revoke(key.id()).actor("ben").reason("leaked").await?;
    ///
    /// let page = manager.audit().key(key.id()).await?;
    /// let [revoked, created] = &page.entries[..] else { panic!() };
    /// assert_eq!((revoked.action, created.action), (AuditAction::Revoked, AuditAction::Created));
    /// assert_eq!(revoked.origin.actor.as_deref(), Some("ben"));
    /// assert_eq!(revoked.origin.reason.as_deref(), Some("leaked"));
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn audit(&self) -> AuditRequest {
        AuditRequest::new(self.clone())
    }
}

/// A call that reads the audit log; see [`ApiKeyManager::audit`]. Resolves to a page of entries, the
/// newest first.
///
/// An entry must match all filters that are set. A page may be short and have a
/// [`next`](AuditPage::next).
///
/// Its errors are [`Error::Unsupported`] if the store does not keep an
/// [audit log](crate::KeyStore::audit), [`Error::InvalidArgument`], [`Error::Store`] and
/// [`Error::ShutDown`].
#[derive(Debug, Clone)]
#[must_use = "nothing is read until this is awaited"]
pub struct AuditRequest {
    manager: ApiKeyManager,
    query: AuditQuery,
    started: StartedCall<AuditPage>,
}

impl AuditRequest {
    fn new(manager: ApiKeyManager) -> Self {
        Self {
            manager,
            query: AuditQuery::newest(PAGE_SIZE),
            started: StartedCall::none(),
        }
    }

    /// Selects entries of this key, also of one that was purged. By default, all.
    pub fn key(mut self, id: KeyId) -> Self {
        self.query.key = Some(id);
        self
    }

    /// Selects entries of this owner and its keys, and those of keys that it got from another owner or
    /// gave to one, which name the other. By default, all.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.query.owner = Some(owner.into());
        self
    }

    /// Selects entries of this actor. By default, all.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.query.actor = Some(actor.into());
        self
    }

    /// Selects entries from `from` (inclusive) to `to` (exclusive), a later time, by the store's clock.
    /// By default, all.
    pub fn between(mut self, from: impl Into<Timestamp>, to: impl Into<Timestamp>) -> Self {
        (self.query.from, self.query.to) = (Some(from.into()), Some(to.into()));
        self
    }

    /// Starts before this position: [`AuditPage::next`] of the previous page. By default, at the newest
    /// entry.
    pub fn before(mut self, position: impl Into<Option<String>>) -> Self {
        self.query.before = position.into();
        self
    }

    /// Sets the maximum number of entries in a page, from 1 to 1000. By default, 100.
    pub fn page_size(mut self, entries: u32) -> Self {
        self.query.limit = entries;
        self
    }

    /// Writes all selected entries, page by page, the newest first.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// use apikey_runtime::audit::AuditFormat;
    /// use std::io::Write;
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// # manager.create("ci").owner("acme").await?;
    /// # let mut file = Vec::new();
    /// let mut export = manager.audit().owner("acme").export(AuditFormat::Csv);
    /// while let Some(text) = export.next().await {
    ///     file.write_all(text?.as_bytes())?;
    /// }
    /// # assert_eq!(String::from_utf8(file).unwrap().lines().count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// The page size is 100, whatever was set: an export holds one page in memory.
    pub fn export(mut self, format: AuditFormat) -> AuditExport {
        self.query.limit = PAGE_SIZE;
        AuditExport::new(self, format)
    }

    async fn read(self) -> Result<AuditPage, Error> {
        let Self { manager, query, .. } = self;
        check(&query)?;
        manager
            .on_thread(move |core| async move { core.read_audit(&query).await })
            .await
    }
}

impl_call!(AuditRequest => AuditPage, |call| call.clone(), Self::read);

/// Checks the arguments of a call.
fn check(query: &AuditQuery) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::InvalidArgument(message));
    if !(1..=MAX_PAGE_SIZE).contains(&query.limit) {
        return refuse(format!(
            "the page size is {}; write 1 to {MAX_PAGE_SIZE}, and read further pages with `before`",
            query.limit
        ));
    }
    if let Some((from, to)) = query.from.zip(query.to)
        && from >= to
    {
        return refuse(format!(
            "the audit log is read from {from} up to {to}, which is not later; write the times in their order, as in \
             `between(from, to)`"
        ));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_position =
        |text: &String| (1..=MAX_POSITION_LEN).contains(&text.len()) && text.bytes().all(fits);
    if !query.before.as_ref().is_none_or(is_position) {
        return refuse(
            "the position is not one that a page of the audit log has as `next`; start again without a position"
                .to_owned(),
        );
    }
    Ok(())
}

impl ManagerCore {
    async fn read_audit(&self, query: &AuditQuery) -> Result<AuditPage, Error> {
        let audit = self.audit()?;
        let read = async { answer::audit_page_of(query, audit.read_audit(query).await?) };
        Ok(self.shared.call(StoreCall::ReadAudit, read).await?)
    }

    /// Returns the store's audit log.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] if the store does not have it.
    fn audit(&self) -> Result<&dyn AuditStore, Error> {
        let store = &self.shared.store;
        store.audit().ok_or_else(|| {
            Error::Unsupported(format!(
                "the key store ({store:?}) does not keep an audit log; use a store of this crate, or implement \
                 `KeyStore::audit`"
            ))
        })
    }
}
