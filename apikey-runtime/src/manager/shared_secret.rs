//! Secrets that all managers on a store share.

use super::ApiKeyManager;
use crate::error::Error;
use crate::metrics::StoreCall;
use crate::util::text::quote;

/// The bytes of a secret.
const SECRET_LEN: usize = 32;

/// The maximum length of a name, in bytes.
const MAX_NAME_LEN: usize = 64;

impl ApiKeyManager {
    /// Returns a secret of 256 random bits that all managers on the store share: the same bytes for the same `name`, on each
    /// node and after each restart. Different names have unrelated secrets.
    ///
    /// The first call for a name proposes bytes of the system's random generator, and the store keeps what comes first. So
    /// nodes that start at once need no configuration to sign forms or cookies that the others accept. The store holds the
    /// bytes as they are: a reader of the store can sign too. A secret is never listed and never changes. To replace it,
    /// use another name.
    ///
    /// `name` is 1 to 64 ASCII letters, digits, `_`, `-`, `.` and `:`. Begin it with the name of your crate.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let signing_key = manager.shared_secret("my-app:forms").await?;
    /// assert_eq!(manager.shared_secret("my-app:forms").await?, signing_key);
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidArgument`] for another name, [`Error::Random`] if the generator fails,
    /// [`Error::Unsupported`] if the store does not keep [shared secrets](crate::KeyStore::shared_secrets),
    /// [`Error::Store`] or [`Error::ShutDown`].
    pub async fn shared_secret(&self, name: impl Into<String>) -> Result<[u8; SECRET_LEN], Error> {
        let name = name.into();
        check_name(&name)?;
        let mut proposed = [0; SECRET_LEN];
        self.0.random.fill(&mut proposed).map_err(Error::Random)?;
        self.on_thread(move |core| async move {
            let store = &core.shared.store;
            let secrets = store.shared_secrets().ok_or_else(|| {
                Error::Unsupported(format!(
                    "the key store ({store:?}) does not keep shared secrets; use a store of this crate, implement \
                     `KeyStore::shared_secrets`, or configure the secret on each node"
                ))
            })?;
            let read = secrets.shared_secret(&name, proposed);
            Ok(core.shared.call(StoreCall::SharedSecret, read).await?)
        })
        .await
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    match (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(fits) {
        true => Ok(()),
        false => Err(Error::InvalidArgument(format!(
            "the name {} of a shared secret is not valid; write 1 to {MAX_NAME_LEN} ASCII letters, digits, `_`, `-`, `.` \
             and `:`",
            quote(name)
        ))),
    }
}
