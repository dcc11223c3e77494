//! Arbitrary text as a key, an id, scopes and a charset: no panic, and no text is allowed as a key.
#![no_main]

use apikey_runtime::{ApiKeyManager, KeyId, MemoryStore, Scopes};
use apikey_runtime::key::Charset;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static MANAGER: (actix_web::rt::Runtime, ApiKeyManager) = {
        let runtime = actix_web::rt::Runtime::new().unwrap();
        let builder = ApiKeyManager::builder().store(MemoryStore::new());
        let manager = runtime.block_on(builder.start()).unwrap();
        (runtime, manager)
    };
}

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
    }
    if let Ok(scopes) = Scopes::from_text(text) {
        assert_eq!(Scopes::from_text(&scopes.to_string()).unwrap(), scopes);
    }
    let _ = text.parse::<Charset>();
    MANAGER.with(|(runtime, manager)| {
        assert!(runtime.block_on(manager.verify(text)).is_err());
    });
});
