//! Calls of the manager without `.await`: the compiler suggests it.

use apikey_runtime::{ApiKeyManager, Error, KeyId, Timestamp};

async fn calls(manager: ApiKeyManager, id: KeyId, before: Timestamp) -> Result<(), Error> {
    let _ = manager.create("a").scopes(["b"])?;
    let _ = manager.rotate(id)?;
    let _ = manager.update(id).label("c")?;
    manager.disable(id)?;
    let _ = manager.revoke(id)?;
    let _ = manager.usage(id)?;
    let _ = manager.list()?;
    let _ = manager.purge(before)?;
    let _ = manager.revoke_all("d")?;
    let _ = manager.revoke(id).confirmed()?;
    Ok(())
}

#[deny(unused_must_use)]
async fn without_an_operator(manager: ApiKeyManager, id: KeyId) {
    manager.create("a");
    manager.revoke(id).confirmed();
}

fn main() {}
