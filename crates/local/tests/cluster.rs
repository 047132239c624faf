//! Whole clusters with stand-in roles, on the real kernel.
//!
//! Every test runs in a machine of its own (see `machine/room.rs`). This binary is the tests,
//! their machine, and what `up` re-enters.

// Test code throughout, though no function carries the attribute that clippy looks for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;
mod machine;

use cases::orderly;
use machine::{Machine, room};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    if let Some(ended) = local::reexec() {
        return ended;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let ["foreground", options] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return cases::foreground(options);
    }
    room::main(&room::Suite {
        name: "tandem-local-test",
        patience: Duration::from_secs(150),
        prepare: || (),
        furnish: Machine::new,
        cases: room::cases![
            cases::nodes_reach_each_other_the_machine_and_outside_and_down_leaves_nothing,
            cases::an_agent_is_started_again_and_what_it_started_lives_on,
            cases::a_node_dies_with_everything_in_it_and_comes_back,
            cases::a_node_with_frozen_tasks_still_dies,
            cases::everything_ends_with_the_supervisor_and_down_or_up_clean_up_after_it,
            cases::a_second_up_says_that_it_runs_or_adds_what_is_missing,
            orderly::a_machine_has_one_cluster_and_another_leaves_it_alone,
            cases::what_is_in_the_way_is_named_and_nothing_is_changed,
            cases::docker_s_chain_lets_nodes_through_while_the_cluster_is_up,
            orderly::down_gives_nodes_time_to_stop_what_runs_and_not_too_much,
            cases::loop_devices_and_mounts_of_a_node_go_with_the_cluster,
            cases::the_registry_answers_on_both_addresses,
            cases::term_in_the_foreground_is_down_and_purge_takes_only_our_directory,
        ],
    })
}
