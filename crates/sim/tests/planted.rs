//! Each invariant is shown to bite: with a fault planted, some seed of a few reports just that invariant. And seeds that
//! once failed are lived again by name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bailiwick_sim::{Invariant, Planted, run};

/// Lives seeds until the invariant objects.
fn bites(planted: Planted, invariant: Invariant) {
    bites_from(0, planted, invariant);
}

/// The same from the seed `first` on: what takes a rare meeting of faults to show is looked for near where it was last found.
fn bites_from(first: u64, planted: Planted, invariant: Invariant) {
    let objects = |seed: &u64| run(*seed, Some(planted), false).unwrap().objections.iter().any(|found| found.invariant == invariant);
    assert!((first..first + 400).any(|seed| objects(&seed)), "{planted:?} was not found by `{invariant}`");
}

#[test]
fn a_storage_that_promises_too_early_is_found_before_anything_is_done() {
    bites(Planted::AcksTooEarly, Invariant::RecordedBeforeDone);
}

#[test]
fn a_call_that_is_sent_twice_is_found() {
    bites(Planted::ForwardsTwice, Invariant::RecordedBeforeDone);
}

#[test]
fn a_second_outcome_is_found() {
    bites(Planted::WritesOutcomesTwice, Invariant::OneOutcome);
}

#[test]
fn a_record_that_was_changed_does_not_recompute() {
    bites(Planted::RewritesAmounts, Invariant::Recomputes);
}

#[test]
fn a_secret_in_an_error_is_found() {
    bites(Planted::LeakingVault, Invariant::NoSecret);
}

#[test]
fn a_ledger_that_forgot_what_was_shown_is_found() {
    bites_from(1_400, Planted::AcksReadsTooEarly, Invariant::KnowsWhatWasShown);
}

#[test]
fn a_kept_fold_that_forgot_what_was_shown_is_found() {
    bites(Planted::FoldForgets, Invariant::KnowsWhatWasShown);
}

#[test]
fn a_kept_fold_that_forgot_what_was_written_under_untrusted_influence_is_found() {
    bites(Planted::FoldForgetsWrites, Invariant::ReadBackUntrusted);
}

#[test]
fn a_kept_fold_that_forgot_who_delegated_is_found() {
    bites(Planted::FoldForgetsChains, Invariant::ChainNarrows);
}

#[test]
fn a_kept_fold_that_forgot_a_quarantine_is_found() {
    bites(Planted::FoldForgetsQuarantines, Invariant::StaysStopped);
}

#[test]
fn two_records_in_one_place_are_found() {
    bites(Planted::IgnoresExpected, Invariant::OneLine);
}

#[test]
fn an_approval_that_was_used_twice_is_found() {
    bites(Planted::IgnoresExpected, Invariant::ApprovedOnce);
}

#[test]
fn a_run_that_its_seed_does_not_decide_is_found() {
    let digest = |seed| run(seed, Some(Planted::OtherDice), false).unwrap().digest;
    assert!((0..20).any(|seed| digest(seed) != digest(seed)));
    let digest = |seed| run(seed, None, false).unwrap().digest;
    assert!((0..20).all(|seed| digest(seed) == digest(seed)));
}

fn holds(seed: u64) {
    assert_eq!(run(seed, None, false).unwrap().objections, []);
}

/// One gateway closed a call that another had under way, and that one had heard so before it wrote its own outcome.
#[test]
fn a_call_that_another_gateway_closed_is_not_ended_again() {
    holds(20);
}

/// A gateway that was overtaken while it closed what was left open closed the next call of the same execution by the
/// place that had been counted for it before.
#[test]
fn a_start_that_was_overtaken_reads_on_before_it_closes_the_next_call() {
    holds(235);
}

/// The places that were counted for outcomes which another gateway's record kept from being appended were not free again, so
/// that a call was closed at the place after the outcome which its own gateway wrote meanwhile.
#[test]
fn a_start_that_was_overtaken_counts_again_from_what_is_on_the_log() {
    holds(13_807);
}

/// What was denied before any policy was asked was recorded with the labels of the execution alone, and not with its chain's.
#[test]
fn a_denial_that_needs_no_policy_names_the_labels_of_the_whole_chain() {
    holds(130);
}
