//! Verifies passwords, in memory that is used again.

use std::sync::{Arc, Mutex, PoisonError};

use actix_web::web;
use apikey_portal::BoxError;
use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::password_hash::{Error, Result};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::Semaphore;

/// The number of passwords that are verified at once: each takes 19 MiB and a processor.
const AT_ONCE: usize = 2;

/// The memory of Argon2, one buffer for each password that is verified at once. An allocator that keeps freed memory
/// for each thread would otherwise hold 19 MiB for each thread that ever verified a password.
pub struct PasswordMemory {
    turns: Arc<Semaphore>,
    free: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl PasswordMemory {
    pub fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            // A buffer gets its size when it is first used.
            free: Arc::new(Mutex::new(vec![Vec::new(); AT_ONCE])),
        }
    }

    /// Returns whether a password is that of a hash. `held` is dropped at the end, also if the client has left.
    pub async fn verify(
        &self,
        password: String,
        hash: String,
        held: impl Send + 'static,
    ) -> std::result::Result<bool, BoxError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await?;
        let free = Arc::clone(&self.free);
        // Argon2 is slow on purpose, so it must not block a worker thread.
        let is_right = web::block(move || {
            let _held = (held, turn);
            let list = || free.lock().unwrap_or_else(PoisonError::into_inner);
            let mut blocks = list().pop().unwrap_or_default();
            let is_right = is_right(password.as_bytes(), &hash, &mut blocks);
            list().push(blocks);
            is_right
        });
        Ok(is_right.await??)
    }
}

fn is_right(password: &[u8], hash: &str, blocks: &mut Vec<Block>) -> Result<bool> {
    let hash = PasswordHash::new(hash)?;
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
        return Err(Error::PasswordInvalid);
    };
    let params = Params::try_from(&hash)?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash.version.map(Version::try_from).transpose()?;
    if blocks.len() < params.block_count() {
        blocks.resize(params.block_count(), Block::new());
    }
    let mut output = vec![0; expected.len()];
    Argon2::new(algorithm, version.unwrap_or_default(), params).hash_password_into_with_memory(
        password,
        salt,
        &mut output,
        blocks.as_mut_slice(),
    )?;
    // The comparison takes the same time for all of them.
    Ok(Output::new(&output)? == *expected)
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher as _;

    use super::*;

    #[actix_web::test]
    async fn passwords_are_verified_in_as_many_buffers_as_turns()
    -> std::result::Result<(), BoxError> {
        let hash = Argon2::default().hash_password(b"right")?.to_string();
        let memory = Arc::new(PasswordMemory::new());
        let addresses = || {
            let free = memory.free.lock().unwrap();
            let used = free.iter().filter(|blocks| !blocks.is_empty());
            let used: Vec<_> = used.map(|blocks| blocks.as_ptr()).collect();
            (used, free.len())
        };
        let all = async || {
            let verified = ["right", "wrong", ""].map(|password| {
                let (memory, hash) = (Arc::clone(&memory), hash.clone());
                let password = password.to_owned();
                actix_web::rt::spawn(async move { memory.verify(password, hash, ()).await })
            });
            for (task, is_right) in verified.into_iter().zip([true, false, false]) {
                assert_eq!(task.await??, is_right);
            }
            Ok::<_, BoxError>(())
        };
        all().await?;
        let (first, count) = addresses();
        assert!(!first.is_empty());
        assert_eq!(count, AT_ONCE);
        for _ in 0..4 {
            all().await?;
        }
        let (last, count) = addresses();
        assert_eq!(count, AT_ONCE);
        // The same memory, and not other memory of the same size.
        assert!(first.iter().all(|address| last.contains(address)));
        Ok(())
    }
}
