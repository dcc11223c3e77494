//! The table of checks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{
    CheckResult, audit, audit_pages, audit_texts, batch_reads, bulk, conditions, copied_growth,
    copied_revocations, copied_uses, copying, fields, history, last_use, limits, list_pages,
    listing, live_keys, live_races, membership, notice_claims, notices, owner_changes, owner_keys,
    owner_lists, owners, ranges, rates, records, revocation, shared_secrets, usage,
};
use crate::store::KeyStore;

type CheckFuture = Pin<Box<dyn Future<Output = CheckResult> + Send>>;

/// A check.
pub(super) struct ConformanceCheck {
    pub(super) name: &'static str,
    pub(super) run: CheckFn,
}

/// The function of a check, by the number of stores that it needs.
pub(super) enum CheckFn {
    One(fn(Arc<dyn KeyStore>) -> CheckFuture),
    Two(fn(Arc<dyn KeyStore>, Arc<dyn KeyStore>) -> CheckFuture),
}

/// Lists each check under the name of its function.
macro_rules! checks {
    ($($module:ident { $($kind:ident $name:ident),+ $(,)? })+) => {
        &[$($(ConformanceCheck { name: stringify!($name), run: checks!(@$kind $module::$name) }),+),+]
    };
    (@one $($path:tt)+) => { CheckFn::One(|store| Box::pin($($path)+(store))) };
    (@two $($path:tt)+) => { CheckFn::Two(|store, other| Box::pin($($path)+(store, other))) };
}

pub(super) static CHECKS: &[ConformanceCheck] = checks! {
    records {
        one every_field_reads_back,
        one odd_texts_read_back_and_match_only_themselves,
        one ids_that_differ_in_case_are_different_keys,
        one the_earliest_and_latest_times_read_back,
        one a_written_record_is_visible_at_once,
        one an_insert_of_an_existing_id_is_a_conflict_and_changes_nothing,
        one an_update_changes_the_named_columns_only,
        one an_update_can_clear_optional_fields,
        one an_update_of_a_missing_record_is_not_found,
        one an_update_of_another_version_is_a_conflict_and_changes_nothing,
        one an_update_without_an_expected_version_takes_any,
        one one_of_several_racing_updates_succeeds,
    }
    batch_reads {
        one many_records_are_read_as_one_by_one,
        one a_batch_reads_what_is_written_at_once,
    }
    revocation {
        one the_first_revocation_stays,
        one revoking_a_missing_record_is_not_found,
        one a_late_update_does_not_undo_a_revocation,
        one a_late_update_of_an_old_version_is_a_conflict,
        one the_id_of_a_revoked_key_is_not_reusable,
        one revoking_an_owner_revokes_exactly_their_live_keys,
        one one_of_several_racing_revocations_succeeds,
        one purge_removes_only_keys_that_ended_before,
    }
    listing {
        one a_list_is_ordered_by_id_and_its_pages_are_complete,
        one list_filters_match_whole_texts,
        one a_page_limit_out_of_bounds_is_clamped,
    }
    history {
        one a_poll_without_a_cursor_is_a_resync,
        one an_unchanged_store_reports_no_change,
        one every_change_takes_the_next_epoch_and_names_its_key,
        one a_call_that_changes_nothing_is_not_logged,
        one an_invalid_cursor_is_a_resync,
        two a_cursor_of_another_store_is_a_resync,
        one every_poll_returns_the_same_lease,
        one a_poller_misses_no_change_of_concurrent_writers,
    }
    membership {
        one a_node_that_joins_is_listed_and_a_member,
        one joining_takes_an_epoch_and_names_no_key,
        one an_acknowledgement_applies_to_the_change_log_of_its_cursor,
        one a_suspected_node_is_not_a_member_until_it_joins_again,
        one only_a_node_that_stayed_suspected_is_removed,
    }
    bulk {
        one a_bulk_change_is_made_in_bounded_steps,
        one a_long_change_log_is_read_page_by_page,
    }
    owners {
        one an_owner_begins_with_its_first_key,
        one marking_changes_nothing_that_is_read,
        one revoking_an_owner_revokes_all_earlier_keys_at_once,
        one two_revocations_of_an_owner_keep_both_times_and_reasons,
    }
    owner_changes {
        one a_suspension_that_changes_nothing_is_not_logged,
        one a_change_of_an_unknown_owner_is_not_found,
        one every_change_of_an_owner_takes_one_epoch_and_carries_the_newest_state,
        one owners_are_different_if_a_byte_differs,
        one a_key_that_its_owner_revoked_is_not_revoked_again,
        one purge_removes_keys_that_their_owner_revoked_before,
    }
    owner_keys {
        one a_key_counts_from_when_it_came_to_its_owner,
        one a_key_that_its_owner_revoked_stays_with_it,
        one a_read_has_the_state_of_its_owner_at_that_moment,
        one an_insert_that_races_with_a_revocation_is_revoked_or_newer,
        one changes_of_owner_race_with_revocations,
    }
    owner_lists {
        one owners_are_listed_in_the_order_of_their_names,
        one a_listed_owner_has_its_state,
        one owners_are_found_by_the_beginning_of_their_names,
        one a_page_of_owners_starts_after_any_name,
    }
    fields {
        one a_changed_digest_counts_as_a_rotation,
        one each_change_names_its_actor,
    }
    conditions {
        one another_owner_is_not_found_before_the_version_is_compared,
        one a_refused_write_changes_nothing,
        one one_of_several_racing_changes_of_owner_succeeds,
        one a_revocation_for_an_owner_races_with_a_change_of_owner,
    }
    ranges {
        one each_range_lists_its_records_in_order,
        one labels_are_found_by_their_folded_beginning,
        one ids_are_found_by_their_beginning,
        one expiries_are_found_up_to_their_end,
    }
    list_pages {
        one a_cursor_stays_valid_if_records_change,
        one a_page_has_1000_records_at_most,
    }
    live_keys {
        one a_maximum_of_live_keys_is_not_ignored,
        one only_live_keys_count,
        one a_write_that_makes_a_key_live_is_bounded,
        one a_write_that_makes_no_key_live_is_not_bounded,
        one a_refusal_says_the_first_reason,
    }
    live_races {
        one racing_inserts_fill_a_maximum_exactly,
        one racing_changes_fill_a_maximum_exactly,
        one keys_that_change_places_under_a_maximum_do_not_block,
    }
    audit {
        one each_change_of_a_key_writes_an_entry,
        one each_change_of_an_owner_writes_an_entry,
        one what_changes_nothing_writes_no_entry,
    }
    audit_texts {
        one an_entry_has_what_the_origin_has,
        one hostile_texts_read_back_from_the_audit_log,
        one the_audit_log_holds_no_digest,
    }
    audit_pages {
        one the_audit_log_is_read_by_key_owner_actor_and_time,
        one pages_of_the_audit_log_are_complete,
        one racing_changes_write_one_entry_each,
        one pruning_removes_the_oldest_entries_only,
    }
    notices {
        one a_key_that_expires_has_a_notice,
        one a_changed_expiry_replaces_its_notice,
        one a_removed_expiry_removes_its_notice,
        one other_changes_keep_a_notice,
        one a_removed_key_has_no_notice,
    }
    notice_claims {
        one due_notices_are_claimed_in_the_order_of_their_times,
        one a_claim_is_bounded_and_hides_nothing_for_ever,
        one a_claim_belongs_to_its_node_while_that_is_a_member,
        one a_finished_notice_is_planned_or_removed,
        one claims_of_notices_are_not_changes,
        one racing_claims_give_a_notice_to_one_node,
        one an_expiry_that_changes_in_a_race_has_its_notice,
    }
    limits {
        one racing_charges_pass_up_to_the_limit,
        one if_one_limit_denies_no_limit_is_charged,
        one a_charge_counts_its_cost,
        one a_charge_of_zero_counts_nothing,
        one a_store_counts_as_counter_state_does,
        one a_refill_gives_back_no_more_than_was_used,
        one a_changed_limit_keeps_its_count,
        one counts_are_separate_by_key_name_and_kind,
        one counts_of_a_removed_key_do_not_affect_other_keys,
        one counts_survive_a_restart,
    }
    rates {
        one a_changed_rate_carries_on_and_a_denied_charge_changes_nothing,
    }
    usage {
        one usage_adds_up,
        one a_large_batch_is_added_as_a_whole,
        one a_batch_that_is_retried_is_added_once,
        one usage_is_read_for_a_range_of_hours,
        one a_roll_up_keeps_the_sums_of_days,
        one pruning_keeps_recent_usage,
    }
    last_use {
        one the_last_use_moves_forward_only,
        one uses_of_the_old_and_the_new_secret_are_told_apart,
        one the_latest_networks_of_a_key_are_kept,
        one a_removed_key_has_no_last_use,
    }
    shared_secrets {
        one the_first_proposal_of_a_secret_stays,
        one racing_proposals_of_a_secret_agree,
        one shared_secrets_survive_a_restart,
    }
    copying {
        two a_copy_has_everything,
        two pages_of_a_copy_are_complete,
        two a_repeated_copy_changes_nothing,
        two what_was_changed_since_a_copy_stays,
        one a_state_of_an_owner_that_was_changed_since_a_copy_stays,
        one a_copy_is_a_resync,
        one a_copy_is_not_audited,
        one a_copy_refuses_other_positions_and_too_many_items,
    }
    copied_revocations {
        two a_copy_revokes_what_was_changed_since,
        two a_copy_has_the_later_revocations_of_an_owner,
    }
    copied_growth {
        two a_copy_keeps_what_has_grown_since,
        one a_copy_has_the_latest_uses_of_a_key,
        two a_copy_has_all_audit_entries_of_one_time,
    }
    copied_uses {
        two a_copy_has_the_uses_of_the_two_latest_secrets,
    }
};
