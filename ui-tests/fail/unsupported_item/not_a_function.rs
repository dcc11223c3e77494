//! Items that are not functions.

use apikey_runtime::api_key_required;

#[api_key_required]
struct Struct;

#[api_key_required(fresh)]
pub(crate) enum Enum {}

#[api_key_required]
impl Struct {}

#[api_key_required]
mod module {}

#[api_key_required]
trait Trait {
    #[api_key_required]
    async fn declared() -> String;
}

#[api_key_required]
const CONST: u32 = 5;

#[api_key_required]
static STATIC: u32 = 5;

#[api_key_required]
use std::fmt;

#[api_key_required]
type Alias = u32;

#[api_key_required]
macro_rules! rules {
    () => {};
}

#[api_key_required]
rules!();

#[api_key_required]
unsafe extern "C" {}

fn main() {}
