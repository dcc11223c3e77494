//! A store that forwards to another: the only list of all methods of stores.

use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::Arc;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::clock::Clock;
use apikey_runtime::store::{
    AuditPage, AuditQuery, AuditStore, BatchReads, BulkStep, ChangeListener, ChangeLog, Changes,
    Charge, ChargeOutcome, CopyItems, CopyOutcome, CopyPage, CopySection, Cursor, ExpiryNotice,
    ExpiryNotices, FindResult, KeyPatch, LastUsed, LimitCounter, LimitStore, LimitSupport,
    ListCursor, ListQuery, MemberList, Membership, NetworkUse, Node, NodeId, OwnerPage, OwnerQuery,
    OwnerRevocation, OwnerState, OwnerStore, RecordPage, Revocation, SharedSecretStore, StoreCopy,
    StoreError, UsageBatch, UsageQuery, UsageRow, UsageStore, WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, Timestamp};
use async_trait::async_trait;

/// A capability of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    BatchReads,
    ChangeLog,
    Membership,
    Owners,
    Audit,
    ExpiryNotices,
    Limits,
    Usage,
    SharedSecrets,
    Copying,
}

/// Declares a future of a store's result.
macro_rules! later {
    ($answer:ty) => { impl Future<Output = Result<$answer, StoreError>> + Send };
}

/// Declares [`Call`], [`Forward`] and the traits of [`Forwarding`] for a list of methods. Each line
/// has the call, the method, and a description of the arguments.
macro_rules! forwarding {
    ($($trait:ident, $of:ident {
        $($call:ident $method:ident($($argument:ident: $type:ty),*) -> $answer:ty, $said:expr;)+
        $(=> { $($also:tt)* })?
    })+) => {
        /// A method of a store.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Call {
            $($($call,)+)+
        }

        /// Forwards to [`inner`](Forward::inner). A test overrides the methods that it changes, as
        /// `async fn`, or wraps all calls at once. [`Forwarding`] is then the store.
        pub trait Forward: Debug + Send + Sync + 'static {
            fn inner(&self) -> &dyn KeyStore;

            /// Returns whether the store has this capability, if `inner` has it. By default not [`Capability::BatchReads`]:
            /// a test that changes `find` would have to change `find_many` too.
            fn has(&self, capability: Capability) -> bool {
                capability != Capability::BatchReads
            }

            /// Wraps each call. `arguments` describes the call.
            fn around<T: Send>(
                &self,
                call: Call,
                arguments: impl FnOnce() -> String + Send,
                answer: later!(T),
            ) -> later!(T) {
                let _ = (call, arguments);
                answer
            }

            fn support(&self) -> LimitSupport {
                limits(self.inner()).support()
            }

            fn subscribe(&self) -> Option<ChangeListener> {
                change_log(self.inner()).subscribe()
            }

            fn stop(&self) -> impl Future<Output = ()> + Send {
                self.inner().stop()
            }

            $($(fn $method(&self, $($argument: $type),*) -> later!($answer) {
                async move {
                    let answer = $of(self.inner()).$method($($argument),*);
                    self.around(Call::$call, || $said, answer).await
                }
            })+)+
        }

        $(#[async_trait]
        impl<F: Forward> $trait for Forwarding<F> {
            $(async fn $method(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.0.$method($($argument),*).await
            })+
            $($($also)*)?
        })+
    };
}

forwarding! {
    KeyStore, records {
        Insert insert(record: &KeyRecord, options: &WriteOptions) -> (),
            format!("{} {options:?}", shown_record(record));
        Find find(id: &KeyId) -> Option<KeyRecord>, id.to_string();
        List list(query: &ListQuery) -> RecordPage, format!("{query:?}");
        Update update(id: &KeyId, patch: &KeyPatch, options: &WriteOptions) -> (),
            format!("{} {options:?}", shown(id, patch));
        Revoke revoke(id: &KeyId, revocation: &Revocation, options: &WriteOptions) -> bool,
            format!("{id} {revocation:?} {options:?}");
        RevokeAll revoke_owner(
            owner: &str,
            revocation: &Revocation,
            after: Option<&ListCursor>,
            origin: &ChangeOrigin
        ) -> BulkStep, format!("{owner} {revocation:?} {after:?} {origin:?}");
        Purge purge(before: Timestamp, after: Option<&ListCursor>, origin: &ChangeOrigin) -> BulkStep,
            format!("{before:?} {after:?} {origin:?}");
        => {
            fn offer_clock(&self, clock: &Arc<dyn Clock>) {
                self.0.inner().offer_clock(clock);
            }

            async fn start(&self) -> Result<(), StoreError> {
                self.0.inner().start().await
            }

            fn is_upgrading(&self) -> bool {
                self.0.inner().is_upgrading()
            }

            fn batch_reads(&self) -> Option<&dyn BatchReads> {
                let has = self.0.has(Capability::BatchReads);
                self.0.inner().batch_reads().filter(|_| has).map(|_| self as _)
            }

            fn change_log(&self) -> Option<&dyn ChangeLog> {
                let has = self.0.has(Capability::ChangeLog);
                self.0.inner().change_log().filter(|_| has).map(|_| self as _)
            }

            fn membership(&self) -> Option<&dyn Membership> {
                let has = self.0.has(Capability::Membership);
                self.0.inner().membership().filter(|_| has).map(|_| self as _)
            }

            fn owners(&self) -> Option<&dyn OwnerStore> {
                let has = self.0.has(Capability::Owners);
                self.0.inner().owners().filter(|_| has).map(|_| self as _)
            }

            fn audit(&self) -> Option<&dyn AuditStore> {
                let has = self.0.has(Capability::Audit);
                self.0.inner().audit().filter(|_| has).map(|_| self as _)
            }

            fn expiry_notices(&self) -> Option<&dyn ExpiryNotices> {
                let has = self.0.has(Capability::ExpiryNotices);
                self.0.inner().expiry_notices().filter(|_| has).map(|_| self as _)
            }

            fn limits(&self) -> Option<&dyn LimitStore> {
                let has = self.0.has(Capability::Limits);
                self.0.inner().limits().filter(|_| has).map(|_| self as _)
            }

            fn usage(&self) -> Option<&dyn UsageStore> {
                let has = self.0.has(Capability::Usage);
                self.0.inner().usage().filter(|_| has).map(|_| self as _)
            }

            fn shared_secrets(&self) -> Option<&dyn SharedSecretStore> {
                let has = self.0.has(Capability::SharedSecrets);
                self.0.inner().shared_secrets().filter(|_| has).map(|_| self as _)
            }

            fn copying(&self) -> Option<&dyn StoreCopy> {
                let has = self.0.has(Capability::Copying);
                self.0.inner().copying().filter(|_| has).map(|_| self as _)
            }

            async fn stop(&self) {
                self.0.stop().await;
            }
        }
    }
    BatchReads, batch_reads {
        FindMany find_many(ids: &[KeyId]) -> Vec<FindResult>, format!("{ids:?}");
    }
    ChangeLog, change_log {
        Changes changes(since: Option<&Cursor>, node: Option<&NodeId>) -> Changes,
            format!("{since:?}");
        => {
            fn subscribe(&self) -> Option<ChangeListener> {
                self.0.subscribe()
            }
        }
    }
    Membership, membership {
        Join join(node: &NodeId) -> (), String::new();
        Acknowledge acknowledge(node: &NodeId, cursor: &Cursor) -> (), format!("{cursor:?}");
        Nodes members() -> MemberList, String::new();
        Suspect suspect(seen: &Node) -> (), String::new();
        Dismiss remove_node(seen: &Node) -> (), String::new();
        Leave leave(node: &NodeId) -> (), String::new();
    }
    OwnerStore, owners {
        FindOwner find_owner(owner: &str) -> Option<OwnerState>, owner.to_owned();
        RevokeOwnerKeys revoke_owner_keys(
            owner: &str,
            revocation: &OwnerRevocation,
            origin: &ChangeOrigin
        ) -> OwnerState, format!("{owner} {revocation:?} {origin:?}");
        SuspendOwner set_owner_suspended(owner: &str, suspended: bool, origin: &ChangeOrigin)
            -> (OwnerState, bool), format!("{owner} {suspended} {origin:?}");
        CountLiveKeys count_live_keys(owner: &str, max: u32) -> u32, format!("{owner} {max}");
        ListOwners list_owners(query: &OwnerQuery) -> OwnerPage, format!("{query:?}");
        MarkKeys mark_revoked_keys() -> bool, String::new();
    }
    AuditStore, audit {
        ReadAudit read_audit(query: &AuditQuery) -> AuditPage, format!("{query:?}");
        PruneAudit prune_audit(before: Timestamp) -> bool, format!("{before:?}");
    }
    ExpiryNotices, expiry_notices {
        ClaimNotices claim_notices(node: &NodeId, now: Timestamp, limit: u32) -> Vec<ExpiryNotice>,
            format!("{node} {now:?} {limit}");
        FinishNotices finish_notices(
            node: &NodeId,
            finished: &[(ExpiryNotice, Option<Timestamp>)]
        ) -> (), format!("{node} {finished:?}");
    }
    LimitStore, limits {
        Charge charge(charge: &Charge) -> ChargeOutcome, format!("{charge:?}");
        Refill refill(key: &KeyId, counter: &LimitCounter, amount: u64) -> (),
            format!("{key} {counter:?} {amount}");
        => {
            fn support(&self) -> LimitSupport {
                self.0.support()
            }
        }
    }
    UsageStore, usage {
        AddUsage add_usage(batch: &UsageBatch) -> (), format!("{batch:?}");
        Usage read_usage(query: &UsageQuery) -> Vec<UsageRow>, format!("{query:?}");
        LastUsed last_used(keys: &[KeyId]) -> Vec<LastUsed>, format!("{keys:?}");
        Networks read_networks(keys: &[KeyId]) -> Vec<NetworkUse>, format!("{keys:?}");
        RollUpUsage roll_up_usage(day: i64) -> bool, day.to_string();
        PruneUsage prune_usage(hour: i64) -> (), hour.to_string();
    }
    SharedSecretStore, shared_secrets {
        SharedSecret shared_secret(name: &str, proposed: [u8; 32]) -> [u8; 32], name.to_owned();
    }
    StoreCopy, copying {
        ReadCopy read_copy(section: CopySection, after: Option<&str>, limit: u32) -> CopyPage,
            format!("{section} {after:?} {limit}");
        WriteCopy write_copy(items: &CopyItems) -> CopyOutcome, format!("{items:?}");
    }
}

/// The store that a [`Forward`] describes.
#[derive(Default)]
pub struct Forwarding<F>(pub F);

impl<F> Deref for Forwarding<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

impl<F: Debug> Debug for Forwarding<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn records(store: &dyn KeyStore) -> &dyn KeyStore {
    store
}

fn batch_reads(store: &dyn KeyStore) -> &dyn BatchReads {
    store.batch_reads().unwrap()
}

fn change_log(store: &dyn KeyStore) -> &dyn ChangeLog {
    store.change_log().unwrap()
}

fn membership(store: &dyn KeyStore) -> &dyn Membership {
    store.membership().unwrap()
}

fn owners(store: &dyn KeyStore) -> &dyn OwnerStore {
    store.owners().unwrap()
}

fn audit(store: &dyn KeyStore) -> &dyn AuditStore {
    store.audit().unwrap()
}

fn expiry_notices(store: &dyn KeyStore) -> &dyn ExpiryNotices {
    store.expiry_notices().unwrap()
}

fn limits(store: &dyn KeyStore) -> &dyn LimitStore {
    store.limits().unwrap()
}

fn usage(store: &dyn KeyStore) -> &dyn UsageStore {
    store.usage().unwrap()
}

fn shared_secrets(store: &dyn KeyStore) -> &dyn SharedSecretStore {
    store.shared_secrets().unwrap()
}

fn copying(store: &dyn KeyStore) -> &dyn StoreCopy {
    store.copying().unwrap()
}

/// Describes a record, including what its `Debug` omits.
fn shown_record(record: &KeyRecord) -> String {
    let previous = record.previous.as_ref().map(|previous| &previous.digest);
    let (digest, metadata) = (&record.digest, &record.metadata);
    format!("{record:?} {digest:?} {previous:?} {metadata:?}")
}

/// Describes a patch, including what its `Debug` omits.
fn shown(id: &KeyId, patch: &KeyPatch) -> String {
    let previous = patch.previous.iter().flatten().next();
    let previous = previous.map(|previous| &previous.digest);
    let (digest, metadata) = (&patch.digest, &patch.metadata);
    format!("{id} {patch:?} {digest:?} {previous:?} {metadata:?}")
}
