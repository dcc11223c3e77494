//! The protections that negative controls remove.

/// A protection that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Without {
    /// A check does not look at the lease.
    LeaseCheck,
    /// A check looks at the entry before the lease.
    LeaseBeforeEntry,
    /// A check looks at the lease only when it starts.
    LeaseAtEnd,
    /// A read that began before a change fills the cache.
    Generation,
    /// An eviction lets later callers join a read that began before it.
    Detach,
    /// Numbers are taken when a change begins, as from a sequence.
    CommitOrder,
    /// A node is removed without having been suspected for a longest lease.
    Suspicion,
    /// `.confirmed()` waits for the lease as it is stated now.
    LongestLease,
    /// `.confirmed()` trusts the member list although the history may have been put back.
    UnbrokenHistory,
    /// Waits have no margin for clocks that diverge.
    DriftMargin,
    /// A node takes a lease without being a member.
    Membership,
    /// A lease runs from when the poll was answered.
    LeaseFromSent,
    /// A change of the history is not noticed.
    Tags,
    /// A history is put back although a node has not followed what is lost: not a protection, but
    /// what the promises after a restore assume.
    FollowedBeforePutBack,
    /// A node of the older protocol is removed from the list: not a protection, but what
    /// `revoke_all` and `suspend_owner` assume.
    OlderNodesAreListed,
    /// A denial is not rechecked.
    Recheck,
    /// A denial by a read that the check joined is not asked again.
    JoinedDenials,
    /// An owner's change does not advance the generations.
    OwnerGenerations,
    /// An owner's change raises the marks before it advances the generations.
    GenerationsBeforeMarks,
    /// The lease and the acknowledgement come before the marks.
    MarksBeforeAcknowledgement,
    /// The count is incremented before the marks are raised.
    MarksBeforeCount,
    /// The count is incremented only if a mark was raised.
    CountAlways,
    /// The state of an owner is read again, after the poll and before the lease.
    OwnerStateInPage,
    /// A poll's item sets a mark to an earlier version too.
    MarkVersions,
    /// A resync keeps the table of marks.
    DropMarks,
    /// A change of owner, or an insert, reads the owner's row without a lock.
    OwnerLock,
    /// A dead key that changes owner takes the new owner's number.
    DeadKeyStays,
    /// `revoke_all` does not wait for marking although an older node is a member.
    MarkingForOlderNodes,
    /// `suspend_owner` is not refused although an older node is a member.
    SuspensionForOlderNodes,
}
