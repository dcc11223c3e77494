//! Options in an `impl`, which cannot contain the generated type.

use apikey_runtime::api_key_required;

struct Orders<T>(T);

impl<T: Send> Orders<T>
where
    T: 'static,
{
    const LIMIT: usize = 10;

    #[api_key_required(scope = "orders:read")]
    async fn list() -> &'static str {
        "ok"
    }

    /// Docs.
    #[api_key_required(
        fresh, optional,
    )]
    #[allow(unused)]
    pub(crate) async fn count() -> &'static str {
        "ok"
    }
}

pub trait Handlers {
    #[api_key_required(scope = "orders:read")]
    async fn provided() -> &'static str {
        "ok"
    }
}

fn main() {}
