//! The table of the checks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{CheckResult, history, limits, listing, membership, records, revocation, usage};
use crate::store::KeyStore;

type CheckFuture = Pin<Box<dyn Future<Output = CheckResult> + Send>>;

/// One check.
pub(super) struct ConformanceCheck {
    pub(super) name: &'static str,
    pub(super) run: CheckFn,
}

/// How many stores a check needs.
pub(super) enum CheckFn {
    One(fn(Arc<dyn KeyStore>) -> CheckFuture),
    Two(fn(Arc<dyn KeyStore>, Arc<dyn KeyStore>) -> CheckFuture),
}

/// Each check under the name of its function.
macro_rules! checks {
    ($($module:ident { $($kind:ident $name:ident),+ $(,)? })+) => {
        &[$($(ConformanceCheck { name: stringify!($name), run: checks!(@$kind $module::$name) }),+),+]
    };
    (@one $($path:tt)+) => { CheckFn::One(|store| Box::pin($($path)+(store))) };
    (@two $($path:tt)+) => { CheckFn::Two(|store, other| Box::pin($($path)+(store, other))) };
}

pub(super) static CHECKS: &[ConformanceCheck] = checks! {
    records {
        one every_field_comes_back,
        one odd_texts_come_back_and_find_only_themselves,
        one the_ends_of_time_come_back,
        one a_written_record_is_found_at_once,
        one a_taken_id_is_a_conflict_and_changes_nothing,
        one an_update_changes_the_named_columns_only,
        one an_update_can_clear_what_may_be_missing,
        one an_update_of_a_missing_record_is_not_found,
        one an_update_of_another_version_is_a_conflict_and_changes_nothing,
        one an_update_without_an_expected_version_takes_any,
        one of_updates_that_race_for_one_version_one_wins,
    }
    revocation {
        one the_first_revocation_stays,
        one revoking_a_missing_record_is_not_found,
        one a_late_writer_does_not_bring_a_revoked_key_back,
        one a_late_writer_with_an_old_version_is_a_conflict,
        one a_revoked_id_stays_taken,
        one revoking_an_owner_takes_exactly_their_live_keys,
        one of_revocations_that_race_one_wins,
        one purge_removes_what_ended_before_and_nothing_else,
    }
    listing {
        one a_list_is_in_the_order_of_ids_and_its_pages_join_up,
        one a_list_is_filtered_by_whole_texts,
        one a_limit_out_of_bounds_is_brought_within,
    }
    history {
        one without_a_cursor_the_history_is_unknown,
        one an_unchanged_store_tells_of_no_change,
        one every_change_takes_the_next_epoch_and_names_its_key,
        one what_changes_nothing_is_not_logged,
        one a_cursor_that_is_none_is_unknown,
        two a_cursor_of_another_store_is_unknown,
        one the_lease_is_the_same_for_all_who_ask,
        one a_follower_misses_no_change_of_many_writers,
    }
    membership {
        one a_node_that_joins_is_listed_and_a_member,
        one joining_takes_an_epoch_and_names_no_key,
        one an_acknowledgement_counts_for_the_history_it_names,
        one a_suspected_node_is_no_member_until_it_joins,
        one only_a_node_that_stayed_suspected_is_dismissed,
    }
    limits {
        one of_charges_that_race_as_many_pass_as_the_limit_admits,
        one where_one_limit_refuses_none_is_charged,
        one a_charge_weighs_its_cost,
        one looking_at_limits_counts_nothing,
        one a_store_counts_as_the_model_does,
        one a_refill_gives_back_no_more_than_was_used,
        one a_limit_that_is_changed_keeps_what_was_used,
        one counts_of_other_keys_names_and_kinds_are_apart,
        one counts_of_a_removed_key_are_nobody_elses,
        one counts_outlive_a_restart,
    }
    usage {
        one usage_adds_up,
        one a_large_batch_is_added_as_a_whole,
        one a_batch_that_is_offered_again_is_added_once,
        one usage_is_read_from_an_hour_up_to_another,
        one the_last_use_moves_forward_only,
        one forgetting_keeps_what_is_not_old,
    }
};
