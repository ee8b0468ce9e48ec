//! What the catalogue promises, shown on both databases.
//!
//! Every promise runs on SQLite, and on PostgreSQL where FILMROOM_TEST_POSTGRES holds the URL of a server on which databases
//! may be made. Without it those are listed as ignored; with FILMROOM_REQUIRE_POSTGRES=1 they fail instead.

// A panic is how a promise fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod adopted;
mod answering;
mod archived;
mod audit;
mod batches;
mod cold;
mod commitments;
mod copy;
mod cost;
mod database;
mod decisions;
mod deletions;
mod deliveries;
mod findings;
mod forgetting;
mod generated;
mod holders;
mod hot;
mod kept;
mod kinds;
mod locating;
mod matching;
mod mending;
mod migrations;
mod nodes;
mod objects;
mod opening;
mod patients;
mod patients_by_chance;
mod rebuild;
mod rejections;
mod repacks;
mod restores;
mod rules;
mod scrubs;
mod standing;
mod store;

use std::future::Future;
use std::pin::Pin;

use database::{Database, Kind};
use libtest_mimic::{Arguments, Failed, Trial};

type Promise = fn(Database) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! promises {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($name)),
            (|database| Box::pin($module::$name(database))) as Promise,
        )),+),+]
    };
}

fn main() {
    let promises = promises! {
        opening:
            a_catalogue_is_made_where_there_is_none_and_opened_again,
            a_newer_schema_is_refused,
            a_digest_may_be_unknown_and_is_no_other_length,
            processes_that_start_together_make_one_schema;
        kinds:
            objects_of_one_kind_share_a_row,
            more_kinds_than_are_kept_in_mind_are_told_apart,
            nodes_that_meet_one_new_kind_at_once_share_it,
            a_kind_that_the_database_lost_is_made_again,
            a_copy_that_is_not_complete_is_brought_up_to_date_whatever_it_holds,
            what_was_on_record_before_there_were_kinds_stays;
        adopted:
            an_adopted_object_is_served_from_where_it_lies,
            a_digest_is_learnt_once,
            what_was_learnt_is_told_by_the_journal_study_by_study,
            nothing_gives_way_to_what_is_adopted,
            who_sends_what_was_adopted_and_never_read_keeps_his_copy,
            a_record_is_owed_until_it_is_there;
        repacks:
            what_is_packed_belongs_to_its_pack_and_its_original_holds_nothing,
            what_changed_while_it_was_read_is_not_packed,
            what_is_archived_or_damaged_stays_as_it_is_and_is_counted,
            originals_go_together_where_that_was_asked_for,
            a_deletion_takes_what_was_packed_and_the_original,
            a_rebuild_prefers_the_pack_to_the_original;
        matching:
            sql_finds_what_the_reference_matcher_finds,
            hostile_keys_find_what_they_say_and_harm_nothing;
        answering:
            what_is_counted_comes_with_every_level,
            every_asked_key_comes_back,
            an_answer_does_not_contradict_its_query,
            sequences_and_private_attributes_come_from_the_header,
            answers_keep_the_order_of_their_keys_and_leave_out_what_is_gone,
            what_is_not_served_is_not_found,
            availability_is_the_worst_of_what_can_be_retrieved,
            a_hot_copy_of_what_is_not_served_is_none_of_what_is;
        locating:
            instances_come_by_study_series_and_number,
            a_location_says_where_the_bytes_are,
            a_patient_id_of_several_issuers_is_refused,
            a_study_is_named_by_its_uid_or_accession_number,
            no_more_than_the_cap_and_one_is_found,
            a_search_ends_at_its_time_limit_and_nothing_waits_for_it;
        store:
            the_first_of_its_uid_is_served,
            equal_bytes_are_not_kept_twice_where_the_copy_was_seen,
            equal_bytes_are_not_kept_twice_where_a_verified_pack_has_them,
            equal_bytes_take_the_place_of_a_copy_that_nobody_saw,
            a_corrected_resend_is_served_and_the_old_version_kept,
            what_is_superseded_is_journalled_packed_or_not,
            what_comes_from_elsewhere_is_quarantined,
            a_refused_duplicate_is_not_kept,
            quarantined_bytes_sent_again_are_refused_and_not_kept_twice,
            the_same_object_again_answers_what_it_became,
            one_uid_several_times_in_a_batch_is_judged_in_order,
            a_poisoned_row_fails_alone,
            no_text_makes_a_row_that_cannot_be_stored,
            an_interrupted_ingest_can_be_repeated,
            what_is_prepared_is_known_when_it_is_committed_and_leaves_nothing_when_it_is_dropped,
            what_is_received_every_day_is_written_in_the_thread_of_who_receives,
            a_database_that_somebody_has_moved_or_set_up_otherwise_takes_what_it_is_given;
        holders:
            counts_and_lists_follow_what_is_served,
            without_a_patient_id_every_study_is_a_patient_of_its_own,
            one_patient_id_of_two_issuers_is_two_patients,
            another_name_or_birth_date_is_stored_and_listed_once,
            a_study_of_two_patients_keeps_its_first_and_is_listed,
            what_is_missing_is_filled_in,
            a_study_is_described_by_the_first_object_that_is_served,
            a_header_comes_back_as_it_was_and_takes_little_room,
            a_study_sent_again_under_the_right_patient_id_is_his;
        nodes:
            sixteen_at_once_with_equal_bytes_leave_one_served,
            sixteen_at_once_with_other_bytes_lose_none,
            one_uid_in_sixteen_studies_at_once_is_served_in_one,
            nodes_that_fill_one_study_at_once_count_right,
            the_same_batch_twice_at_once_is_stored_once,
            two_processes_share_one_database;
        migrations:
            a_question_is_gone_only_with_its_answer_on_record,
            studies_come_by_date_and_each_has_its_end,
            whoever_lost_the_lease_or_was_paused_changes_nothing,
            a_study_at_which_nodes_die_is_given_up_and_a_remote_that_fails_costs_none_an_attempt,
            what_is_here_of_an_instance_is_told_by_its_versions;
        cold:
            a_quiet_series_is_claimed_once,
            an_offload_can_be_asked_for_at_once,
            a_pack_goes_from_planned_to_verified,
            what_a_crash_interrupted_is_due_again,
            a_lease_that_ran_out_is_lost_to_the_next,
            a_renewed_lease_is_held,
            a_failed_pack_is_due_again_when_told,
            members_that_changed_since_the_claim_are_not_planned,
            a_pack_says_of_its_members_what_they_were_when_planned,
            a_rotten_member_dissolves_its_pack_and_is_never_packed;
        batches:
            a_batch_is_claimed_as_a_whole_and_verified_in_one,
            one_that_fails_leaves_its_batch_and_the_others_go_on,
            what_is_erased_of_a_batch_goes_together_and_the_rest_is_told_anew;
        hot:
            only_what_is_verified_is_evicted_and_what_is_archived_only_where_that_is_said,
            archived_copies_are_let_go_where_that_is_said,
            candidates_come_in_pages_least_recently_used_first,
            use_is_known_to_the_hour_and_never_goes_back,
            recalled_objects_are_hot_again_and_count_against_the_budget,
            a_recall_changes_what_is_to_be_done_with_its_series,
            every_member_of_a_long_series_gets_its_place,
            a_discarded_file_goes_when_its_journal_entry_is_in_the_cold_store,
            a_discarded_file_goes_at_once_where_there_is_no_cold_store,
            the_sweep_learns_what_it_may_remove;
        audit:
            an_event_is_written_with_the_patient_of_its_study,
            a_target_gets_every_row_once_its_turn_has_come,
            a_row_that_commits_late_is_not_passed_over,
            a_row_of_the_youngest_transaction_is_not_passed_over,
            a_target_is_exported_to_by_one_node_at_a_time,
            what_every_target_has_got_may_be_removed;
        commitments:
            a_request_is_kept_and_claimed_when_its_answer_has_left,
            a_hundred_thousand_references_are_kept_and_come_back_in_order,
            one_transaction_never_stands_for_two_lists,
            the_same_request_many_times_at_once_is_one_commitment,
            a_commitment_is_claimed_by_one_node_and_taken_over_when_that_is_dead,
            two_nodes_that_claim_at_once_get_different_commitments,
            what_waits_is_due_again_when_told_and_on_the_node_named,
            a_report_is_tried_until_it_arrives_or_is_given_up,
            a_requester_that_cannot_be_called_now_keeps_nobody_waiting;
        cost:
            packs_are_counted_by_what_was_seen_and_their_last_access,
            packs_that_are_alike_are_one_group_however_far_apart_they_stand,
            sizes_of_served_instances_are_counted_or_sampled,
            restores_are_counted_by_month_speed_and_tier;
        copy:
            a_catalogue_that_is_copied_while_it_changes_is_equal_and_takes_over,
            a_copy_that_was_interrupted_goes_on;
        standing:
            an_instance_stands_as_it_is_on_record,
            the_offload_of_what_somebody_waits_for_is_hastened_once_it_is_quiet,
            a_damaged_hot_file_is_out_of_service_unless_its_bytes_are_elsewhere;
        rules:
            a_series_tells_what_rules_ask_of_it,
            the_source_of_a_series_is_that_of_its_first_object,
            quiet_series_come_in_pages_and_are_claimed_one_by_one,
            what_was_asked_for_is_packed_before_what_is_quiet,
            the_tags_of_packs_are_walked_by_one_node_at_a_time,
            other_rules_are_walked_for_anew_and_the_same_after_a_while;
        restores:
            a_restore_is_asked_for_once_however_many_want_it,
            a_more_urgent_wish_makes_an_open_restore_faster,
            a_faster_wish_leaves_a_restore_out_of_deep_archive_as_it_is,
            a_budget_grants_all_of_a_request_or_nothing,
            requests_at_once_do_not_spend_a_budget_twice,
            a_restore_goes_from_wanted_to_readable,
            a_restore_is_due_when_either_clock_says_so,
            what_a_dead_node_restored_is_taken_over,
            an_event_or_a_successful_read_makes_a_restore_due,
            a_restore_that_failed_or_waits_says_why,
            it_is_learnt_how_long_restores_take;
        archived:
            a_pack_that_nobody_has_read_counts_as_archived,
            where_the_store_goes_by_tags_what_has_none_is_never_archived,
            what_is_seen_of_a_pack_corrects_its_archive_clock,
            a_damaged_pack_is_no_copy_until_it_is_found_sound;
        mending:
            hot_copies_come_in_stretches_and_a_rotten_one_is_held_again_or_given_up,
            a_damaged_pack_is_put_again_by_one_who_holds_its_members,
            members_that_are_hot_leave_a_damaged_pack;
        scrubs:
            a_scrub_goes_on_where_it_was_and_its_last_pass_stays_on_record,
            nodes_share_the_scrub_of_the_packs;
        decisions:
            a_quarantined_object_is_not_counted_and_can_come_back,
            accepting_supersedes_what_was_served,
            discarded_bytes_do_not_come_back,
            what_is_accepted_belongs_to_the_patient_that_it_names,
            nothing_is_decided_about_an_unknown_object;
        deletions:
            what_is_deleted_is_gone_at_once_and_comes_back_as_it_was,
            what_came_after_a_deletion_was_lifted_is_taken_back_though_that_is_still_being_erased,
            a_series_or_an_instance_is_deleted_alone,
            what_is_deleted_is_refused_until_it_is_taken_back_or_permitted,
            the_retention_period_forbids_it_with_a_date,
            nothing_is_erased_before_its_time_and_before_the_journal_is_safe,
            a_pack_goes_or_is_replaced_without_what_is_deleted,
            a_pack_on_its_way_is_left_alone_until_it_is_verified,
            what_waits_is_neither_packed_nor_in_the_way_of_eviction,
            what_two_deletions_cover_comes_back_with_both,
            what_lies_elsewhere_goes_only_if_it_is_out_of_service,
            deletions_and_stores_at_once_leave_nothing_served_that_is_deleted,
            whatever_is_deleted_and_taken_back_is_found_as_before_and_nothing_else_is;
        deliveries:
            what_is_open_already_is_joined,
            a_delivery_of_thousands_comes_in_whole_series,
            a_delivery_is_worked_on_by_one_node_and_taken_over_when_that_is_dead,
            a_node_that_starts_again_gives_up_its_leases,
            what_was_sent_is_sent_no_more,
            a_c_move_and_a_delivery_do_not_both_send,
            a_corrected_image_is_sent_as_it_is_served_and_a_withdrawn_one_is_not,
            an_image_that_is_refused_is_given_up_and_the_others_are_not,
            a_delivery_waits_and_is_due_when_its_pack_is_readable,
            what_is_not_sent_in_time_expires,
            a_cancel_leaves_nothing_of_what_it_is_about,
            the_same_asked_for_many_times_at_once_is_open_once;
        forgetting:
            names_in_the_journal_go_with_what_they_are_about;
        findings:
            what_is_seen_again_is_one_finding_until_it_is_closed,
            findings_of_a_disk_are_its_nodes,
            a_repair_is_audited_with_the_patient_of_its_study,
            what_a_pass_did_not_see_again_is_closed_by_it,
            a_pass_goes_on_where_it_was;
        kept:
            a_place_is_a_pack_that_can_be_counted_on,
            an_object_is_lost_if_neither_pack_nor_disk_has_it,
            a_pack_is_adopted_and_the_catalogue_knows_better_than_its_manifest,
            a_pack_that_read_corrupt_is_no_copy_whatever_a_head_says;
        rebuild:
            only_an_empty_catalogue_is_rebuilt_and_an_open_rebuild_goes_on,
            a_series_loaded_from_what_was_described_answers_as_before,
            what_another_node_is_about_to_commit_is_counted_by_a_load,
            what_is_loaded_twice_is_there_once,
            of_two_that_seem_served_the_newer_one_is,
            the_newest_description_stays_in_whatever_order_they_come,
            a_note_in_force_stays_in_force_and_a_refused_one_refused,
            what_the_journal_said_of_a_file_is_kept_until_it_is_found,
            a_node_that_was_never_swept_is_told_apart;
        patients:
            merged_patients_are_one_under_either_id,
            a_retrieve_under_either_id_brings_the_priors_of_both,
            what_arrives_for_a_merged_patient_joins_and_an_undo_puts_it_where_its_bytes_say,
            merges_chain_form_no_circle_and_are_undone_in_any_order,
            a_relinked_study_is_the_other_patients_and_so_is_what_follows_it,
            of_several_relinks_the_latest_in_force_holds,
            a_patient_of_whom_nothing_is_here_is_named_with_his_issuer,
            the_same_message_again_changes_nothing_whatever_was_decided_since,
            decisions_are_journalled_where_a_rebuild_finds_them_and_audited_for_both,
            a_decision_about_patients_settles_a_conflict,
            what_the_journal_tells_makes_the_same_of_an_empty_catalogue,
            of_merges_that_contradict_each_other_the_later_holds,
            patients_merged_both_ways_at_once_form_no_circle;
        patients_by_chance:
            whatever_is_decided_queries_are_answered_as_the_model_says;
        rejections:
            a_note_takes_what_it_lists_out_of_service_and_nothing_else,
            a_note_is_journalled_by_study_and_audited,
            what_a_note_lists_and_comes_later_is_withheld_and_kept,
            a_resend_of_what_was_withdrawn_stays_out_of_service,
            an_undone_note_gives_back_exactly_what_it_withdrew,
            what_is_served_since_is_not_pushed_aside_by_an_undo,
            only_a_served_note_counts_and_notes_do_not_withdraw_notes,
            a_note_of_expired_data_hides_itself_too,
            a_refused_note_is_an_object_like_any_other,
            a_key_object_that_rejects_nothing_waits_for_nothing,
            notes_and_images_at_once_leave_nothing_served_that_is_listed,
            a_note_of_five_thousand_instances_is_one_transition,
            a_note_alone_does_not_keep_a_study_with_the_wrong_patient,
            a_note_that_a_person_accepts_waits_to_be_obeyed,
            a_note_that_is_not_there_changes_nothing,
            conflicts_are_listed_until_a_person_resolves_them;
    };
    let server = std::env::var("FILMROOM_TEST_POSTGRES").ok();
    let required = std::env::var("FILMROOM_REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
    let mut trials = Vec::new();
    for (name, promise) in promises {
        trials.push(Trial::test(format!("sqlite::{name}"), move || run(Kind::Sqlite, promise)));
        let kind = server.clone().map(Kind::Postgres);
        let ignored = kind.is_none() && !required;
        let trial = Trial::test(format!("postgres::{name}"), move || match kind {
            Some(kind) => run(kind, promise),
            None => Err(Failed::from("FILMROOM_TEST_POSTGRES is not set")),
        });
        trials.push(trial.with_ignored_flag(ignored));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn run(kind: Kind, promise: Promise) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let database = Database::make(kind).await;
        let dropping = database.guard();
        let local = tokio::task::LocalSet::new();
        let outcome = local.run_until(async { tokio::task::spawn_local(promise(database)).await }).await;
        dropping.drop_database().await;
        outcome.map_err(|error| match error.try_into_panic() {
            Ok(panic) => Failed::from(said(&*panic)),
            Err(error) => Failed::from(error.to_string()),
        })
    })
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
        .to_owned()
}
