//! New ids and secrets, and their random source.

use std::fmt;

use rand::rngs::SysRng;
use rand::{TryCryptoRng, TryRng};
use secrecy::{ExposeSecret, SecretString};

use super::ApiKeyManager;
use crate::error::{BoxError, Error};
use crate::key::{KeyId, generate, random_id};

/// A source of random bytes.
pub(super) trait RandomSource: fmt::Debug + Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), BoxError>;
}

/// The system's generator. If it fails, that is an error; a weaker source is never used.
#[derive(Debug)]
pub(super) struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), BoxError> {
        SysRng.try_fill_bytes(bytes).map_err(Into::into)
    }
}

impl ApiKeyManager {
    pub(super) fn new_id(&self) -> Result<KeyId, Error> {
        random_id(&mut RandomBytes(&*self.0.random)).map_err(|failure| Error::Random(failure.0))
    }

    /// Returns a new secret for the key `id`, in the configured format, and its digest.
    pub(super) fn new_secret(
        &self,
        prefix: &str,
        id: KeyId,
    ) -> Result<(SecretString, String), Error> {
        let config = self.config();
        let source = &mut RandomBytes(&*self.0.random);
        let secret = generate(
            source,
            prefix,
            id,
            config.secret_charset(),
            config.secret_length(),
        )
        .map_err(|failed| Error::Random(failed.0))?;
        let hasher = &self.0.core.hasher;
        let digest = hasher.hash(secret.expose_secret()).map_err(Error::Hasher)?;
        if hasher
            .parse(&digest)
            .is_none_or(|parsed| !hasher.verify(secret.expose_secret(), &parsed))
        {
            return Err(Error::Hasher(
                "the hasher does not verify what it has just hashed".into(),
            ));
        }
        Ok((secret, digest))
    }
}

/// Adapts a [`RandomSource`] to the traits of `rand`.
struct RandomBytes<'a>(&'a dyn RandomSource);

/// The error of a generator that failed.
#[derive(Debug)]
struct RandomFailure(BoxError);

impl fmt::Display for RandomFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for RandomFailure {}

impl TryRng for RandomBytes<'_> {
    type Error = RandomFailure;

    fn try_next_u32(&mut self) -> Result<u32, RandomFailure> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, RandomFailure> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RandomFailure> {
        self.0.fill(bytes).map_err(RandomFailure)
    }
}

impl TryCryptoRng for RandomBytes<'_> {}
